"""Training data of which one task is seen for many epochs, then the next (released T-OAR code)."""

from typing import Any

from fusion.data.loading.datamodule import FusionDataModule
from fusion.data.loading.loader import FusionDataLoader
from fusion.data.loading.sampler import AlternatingBatchSampler
from fusion.errors import ConfigError


class TaskTurns(FusionDataModule):
    """One task at a time: an epoch is a pass over that task's data, and after some epochs it is the next one's turn.

    Needs `trainer.reload_dataloaders_every_n_epochs=1`.

    Args:
        turn_epochs: epochs of a turn.
        options: those of `FusionDataModule`.

    Raises:
        ConfigError: turns of no length.
    """

    def __init__(self, turn_epochs: int = 50, **options: Any) -> None:
        super().__init__(**options)
        if turn_epochs < 1:
            raise ConfigError(f"data.turn_epochs={turn_epochs}: expected at least 1")
        self.turn_epochs = turn_epochs

    @property
    def turn(self) -> str:
        """The task whose turn it is."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self.tasks[epoch // self.turn_epochs % len(self.tasks)]

    def train_dataloader(self) -> FusionDataLoader:
        """Batches of the task whose turn it is.

        Raises:
            ConfigError: the trainer would keep the first task's loader.
        """
        if self.trainer is not None and getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise ConfigError("turns of tasks need trainer.reload_dataloaders_every_n_epochs=1")
        return super().train_dataloader()

    def _batch_sampler(self) -> AlternatingBatchSampler:
        sampler = super()._batch_sampler()
        rank, world_size = self._rank_and_world_size()
        return AlternatingBatchSampler(
            {self.turn: sampler.spans[self.turn]},
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            epoch_by=self.turn,
            rounds_per_epoch=self.rounds_per_epoch,
            repeat_epoch=sampler.repeat_epoch,
        )
