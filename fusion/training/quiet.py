"""Warnings and lines of Lightning that our own first lines say better, or that say nothing to our users."""

import logging
import warnings

KNOWN_NOISE = (
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # our epoch means are the same on every rank
    ".*does not have many workers.*",  # a matter of the configuration
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
    ".*The `srun` command is available.*",
    ".*LeafSpec.*is deprecated.*",
    ".*returned a view tensor.*",  # FSDP, of outputs that nobody changes in place
)

KNOWN_LINES = (
    "Tip:",
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "LOCAL_RANK:",
    "Initializing distributed:",
    "distributed_backend=",
    "All distributed processes registered",
    "--------------------",
    "`Trainer.fit` stopped:",
    "Restoring states from",
    "Restored all states",
    "Loaded model weights",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
)
"""Lines of Lightning that our own first lines say better, or that say nothing."""


def hush() -> None:
    """Leave out warnings and advertisements of Lightning that do not concern our users."""
    for message in KNOWN_NOISE:
        warnings.filterwarnings("ignore", message)
    for package in ("pytorch", "fabric"):
        for module in ("utilities.rank_zero", "utilities.distributed", "utilities.seed"):
            logger = logging.getLogger(f"lightning.{package}.{module}")
            if not any(getattr(item, "__name__", "") == "_no_tips" for item in logger.filters):
                logger.addFilter(_no_tips)


def _no_tips(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in KNOWN_LINES)
