"""What happens beside the training: checkpoints, logs, pictures, averages, guards."""

from fusion.training.callbacks.best_epoch import BestEpoch
from fusion.training.callbacks.checkpoints import LastCheckpoint
from fusion.training.callbacks.contact_sheet import ContactSheet
from fusion.training.callbacks.ema import EMA
from fusion.training.callbacks.finite_guard import FiniteGuard
from fusion.training.callbacks.images import ImageLogger
from fusion.training.callbacks.loggers import MetricsCSV, wandb_logger
from fusion.training.callbacks.norms import NormMonitor
from fusion.training.callbacks.prediction_writer import PredictionWriter
from fusion.training.callbacks.progress import LineProgress, progress_bar
from fusion.training.callbacks.routing_monitor import RoutingMonitor
from fusion.training.callbacks.step_seed import StepSeed
from fusion.training.callbacks.wandb_board import WandbBoard

__all__ = [
    "EMA",
    "BestEpoch",
    "ContactSheet",
    "FiniteGuard",
    "ImageLogger",
    "LastCheckpoint",
    "LineProgress",
    "MetricsCSV",
    "NormMonitor",
    "PredictionWriter",
    "RoutingMonitor",
    "StepSeed",
    "WandbBoard",
    "progress_bar",
    "wandb_logger",
]
