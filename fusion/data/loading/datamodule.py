"""Data sets to loaders, for Lightning and for plain Python."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import distributed
from torch.utils.data import DataLoader

from fusion.data.batch import TASKS, FusionBatch
from fusion.data.dataset import PairDataset
from fusion.data.files.limits import set_max_pixels
from fusion.data.files.partial import share_cuts
from fusion.data.loading.joint import JointDataset
from fusion.data.loading.loader import FusionDataLoader, collate, processors, to_float
from fusion.data.loading.sampler import AlternatingBatchSampler, EvalBatchSampler
from fusion.data.loading.selection_record import write_selections
from fusion.data.sample import Transform
from fusion.data.transforms.pair import eval_transform, train_transform
from fusion.errors import ConfigError

TRAIN_SCALE: dict[str, tuple[float, float]] = {"vif": (0.81, 1.0), "mef": (0.2, 1.0), "mff": (0.64, 1.0)}
"""Range of the cropped share of the area by task (TC-MoA, official data loaders)."""

GPU_WORKERS = 8
"""Loading processes where a GPU waits for what they bring, and nothing else is said."""

Parts = Mapping[str, PairDataset | None] | None
"""Data sets by a name of their own; None leaves one out."""


class Preparation(Protocol):
    """Something that makes or fetches data before data sets are opened."""

    def prepare(self) -> Any:
        """Do it, once; later calls return quickly."""


class FusionDataModule(LightningDataModule):
    """Training batches whose tasks take turns, and evaluation image by image.

    Give the Trainer `use_distributed_sampler=False`: the samplers here share the data out themselves.

    Args:
        train: data sets to train on; their tasks alternate, sets of one task are joined.
        val: data sets to validate on.
        test: data sets for testing and prediction.
        batch_size: training pairs per batch (which has one task) and process.
        crop_size: side, or height and width, of training crops in pixels. None: whole images, all of one size (see
            `resize` of `PairDataset`).
        scale: range of the cropped share of the area by task; tasks not named take `TRAIN_SCALE`.
        ratio: range of the aspect ratio of crops.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: rotate training crops by random quarter turns.
        zoom: range of source pixels per crop pixel, in place of `scale` and `ratio`; see `fusion.data.transforms.crops`.
        sensor: by task, settings of `fusion.data.transforms.sensor.RandomSensor`, which changes each source by itself.
        swap: by task, probability that the sources of a pair change places.
        tasks: order of the tasks (or groups, see `PairDataset`) within a round. None: those that `train` has, in the
            order vif, mef, mff, others.
        epoch_by: task whose data make up an epoch, "longest" or "shortest"; see `AlternatingBatchSampler`.
        rounds_per_epoch: fixed number of rounds (one batch of every task) per epoch instead.
        same_scenes: the batches of a round show the same crops of the same scenes, task after task (GIFNet).
        eval_batch_size: pairs per batch in evaluation; above 1 the images of a batch must have one size.
        val_crop: centre crop of at most this size in validation only.
        eval_resize: height and width, or shorter side, to resize to in evaluation. None: full size.
        eval_multiple: crop evaluation images down to a multiple of this many pixels per side.
        num_workers: processes that load data, per loader, at most one per processor; 0 loads in the main process. None: 8 where
            there is a GPU, else 0.
        pin_memory: None: when there is a GPU.
        persistent_workers: keep the processes between epochs.
        prefetch_factor: batches each process reads ahead.
        seed: of order and augmentation, the same on all ranks.
        prepare: run before anything is opened, by one process per machine.
        max_pixels: largest width times height that is read, by this process; None: 100 million.

    Raises:
        ConfigError: a key or value is wrong.
        DataError: on `setup`, if a data set is not as expected.
    """

    allow_zero_length_dataloader_with_multiple_devices = True  # more ranks than test images is no mistake

    def __init__(
        self,
        train: Parts = None,
        val: Parts = None,
        test: Parts = None,
        *,
        batch_size: int = 3,
        crop_size: int | Sequence[int] | None = 448,
        scale: Mapping[str, Sequence[float]] | None = None,
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        hflip: float = 0.5,
        vflip: float = 0.0,
        rot90: bool = False,
        zoom: Sequence[float] | None = None,
        sensor: Mapping[str, Mapping[str, Any]] | None = None,
        swap: Mapping[str, float] | None = None,
        tasks: Sequence[str] | None = None,
        epoch_by: str = "vif",
        rounds_per_epoch: int | None = None,
        same_scenes: bool | None = None,
        eval_batch_size: int = 1,
        val_crop: int | Sequence[int] | None = None,
        eval_resize: int | Sequence[int] | None = None,
        eval_multiple: int | None = None,
        num_workers: int | None = 4,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        prefetch_factor: int | None = None,
        seed: int = 0,
        prepare: Preparation | None = None,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__()
        set_max_pixels(max_pixels)
        self.parts = {"train": _given(train), "val": _given(val), "test": _given(test)}
        share_cuts(dataset for part in self.parts.values() for dataset in part.values())
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.tasks = _order(self.parts["train"].values(), tasks)
        self.epoch_by, self.rounds_per_epoch = epoch_by, rounds_per_epoch
        self.same_scenes = bool(same_scenes)
        self.seed = seed
        self.prepare = prepare
        areas: dict[str, Sequence[float]] = {**TRAIN_SCALE, **(scale or {})}
        sensors, swaps = dict(sensor or {}), dict(swap or {})
        for key, by_task in (("scale", areas), ("sensor", sensors), ("swap", swaps)):
            if unknown := [task for task in by_task if task not in {*TASKS, *self.tasks}]:
                raise ConfigError(f"data.{key}: unknown task '{unknown[0]}', expected one of {', '.join(TASKS)}.")
        known = list(dict.fromkeys([*self.tasks, *TASKS, "longest", "shortest"]))
        if epoch_by not in known:
            raise ConfigError(f"data.epoch_by={epoch_by}: expected one of {', '.join(known)}.")
        self._train_transforms = {}
        for task in self.tasks:
            options: dict[str, Any] = {"sensor": sensors.get(task), "swap": swaps.get(task, 0.0)}
            shape = (crop_size, areas.get(task, (0.2, 1.0)), ratio, hflip, vflip, rot90, zoom)
            self._train_transforms[task] = train_transform(*shape, **options)
        self._eval_transforms = {
            "val": eval_transform(eval_resize, val_crop, eval_multiple),
            "test": eval_transform(eval_resize, None, eval_multiple),
        }
        if num_workers is None:
            num_workers = GPU_WORKERS if torch.cuda.is_available() else 0
        self._loader_options: dict[str, Any] = {
            "num_workers": min(num_workers, processors()),
            "pin_memory": torch.cuda.is_available() if pin_memory is None else pin_memory,
            "persistent_workers": persistent_workers and num_workers > 0,
            "prefetch_factor": prefetch_factor if num_workers > 0 else None,
        }
        self._joint: dict[str, JointDataset] = {}
        self._train_loader: FusionDataLoader | None = None
        self._loader_owner: Any = None
        self._resume_from: Mapping[str, Any] | None = None

    # Lightning's life cycle -----------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Make or fetch data, in one process per machine."""
        if self.prepare is not None:
            self.prepare.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Open the data sets of a stage ("fit", "validate", "test", "predict"; None: all there are).

        Raises:
            ConfigError: the stage has no data set.
            DataError: a data set is not as expected.
        """
        needed = {
            "fit": ["train", "val"],
            "validate": ["val"],
            "test": ["test"],
            "predict": ["test"],
            None: list(self.parts),
        }
        for part in needed[stage]:
            if part not in self._joint:
                self._joint[part] = self._join(part)
                self._record(part)
        required = needed[stage][0]
        if stage is not None and not len(self._joint[required]):
            raise ConfigError(f"data.{required}: no data set for stage '{stage}'; choose data that has some.")

    def train_dataloader(self) -> FusionDataLoader:
        """Batches of alternating tasks; state and resuming are its own."""
        self._check_trainer()
        loader = FusionDataLoader(self._opened("train"), self._batch_sampler(), **self._loader_options)
        if self._resume_from is not None and self._is_fitting():
            # Lightning restores loaders too, but not if something asked for the loader before (its PR 21765).
            loader.load_state_dict(self._resume_from)
            self._resume_from = None
        elif self._train_loader is not None and self.trainer is not None and self._loader_owner is self.trainer:
            loader.batch_sampler.position = self._train_loader.batch_sampler.position  # reloaded within one training
        self._train_loader, self._loader_owner = loader, self.trainer
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation images of this rank."""
        return self._eval_loader("val") if len(self._opened("val")) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images of this rank."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test images, for writing fused ones."""
        warnings.filterwarnings("ignore", message=".*custom batch sampler `EvalBatchSampler` for prediction")
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> FusionBatch:
        """Bytes to float32 in [0, 1], on the device."""
        return to_float(batch)

    def state_dict(self) -> dict[str, Any]:
        """Position of the training loader."""
        return {} if self._train_loader is None else {"train_loader": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader start at a saved position."""
        self._resume_from = state_dict.get("train_loader")

    # For people and schedules ---------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Training batches per epoch and process; valid after `setup("fit")`."""
        return len(self._batch_sampler())

    def train_transform(self, dataset: PairDataset) -> Transform | None:
        """What training does to the samples of one of its data sets."""
        return dataset.transform or self._train_transforms.get(dataset.group)

    def describe(self) -> list[dict[str, Any]]:
        """One row per data set: `part`, `set`, `task`, `split`, `pairs`, `root`."""
        return [
            {
                "part": part,
                "set": dataset.name,
                "task": dataset.task,
                "split": dataset.split,
                "pairs": len(dataset),
                "root": str(dataset.root),
            }
            for part, datasets in self.parts.items()
            for dataset in datasets.values()
        ]

    # Inside ---------------------------------------------------------------------------------------------------------

    def _join(self, part: str) -> JointDataset:
        datasets = list(self.parts[part].values())
        for dataset in datasets:
            dataset.preload()
        if part == "train":
            repeated = [dataset for dataset in datasets for _ in range(dataset.repeat)]
            return JointDataset(repeated, self.tasks, self._train_transforms)
        transform = self._eval_transforms[part]
        return JointDataset(datasets, None, {dataset.group: transform for dataset in datasets})

    def _record(self, part: str) -> None:
        """Keep random choices in the run folder; without one (a bare Trainer works where it is) nothing is written."""
        if self.trainer is None or not self.trainer.is_global_zero or getattr(self.trainer, "fast_dev_run", False):
            return
        folder = Path(self.trainer.default_root_dir)
        if folder.resolve() != Path.cwd():
            write_selections(self.parts[part], folder / "data", part)

    def _opened(self, part: str) -> JointDataset:
        if part not in self._joint:
            raise RuntimeError(f"call setup() before asking for {part} data")
        return self._joint[part]

    def _batch_sampler(self) -> AlternatingBatchSampler:
        rank, world_size = self._rank_and_world_size()
        return AlternatingBatchSampler(
            self._opened("train").spans,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            epoch_by=self.epoch_by,
            rounds_per_epoch=self.rounds_per_epoch,
            same_scenes=self.same_scenes,
            repeat_epoch=self.trainer is not None and getattr(self.trainer, "overfit_batches", 0) > 0,
        )

    def _eval_loader(self, part: str) -> DataLoader[Any]:
        self._check_trainer()
        dataset = self._opened(part)
        rank, world_size = self._rank_and_world_size()
        sampler = EvalBatchSampler(dataset.tasks, self.eval_batch_size, rank=rank, world_size=world_size)
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, **self._loader_options)

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def _is_fitting(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    def _check_trainer(self) -> None:
        """Lightning would share out once more what is shared out already."""
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if connector is not None and connector.is_distributed and connector.use_distributed_sampler:
            raise ConfigError(
                "trainer.use_distributed_sampler is true; set it to false, the data module shares data itself."
            )


def _given(part: Parts) -> dict[str, PairDataset]:
    return {name: dataset for name, dataset in (part or {}).items() if dataset is not None}


def _order(datasets: Iterable[PairDataset], tasks: Sequence[str] | None) -> list[str]:
    """The tasks in their order, checked against what there is."""
    present = list(dict.fromkeys(dataset.group for dataset in datasets))
    if tasks is None:
        return [task for task in TASKS if task in present] + [task for task in present if task not in TASKS]
    if present and (missing := [task for task in tasks if task not in present]):
        raise ConfigError(f"data.tasks: no training data for '{missing[0]}', only for {', '.join(present)}.")
    return list(tasks) if present else []
