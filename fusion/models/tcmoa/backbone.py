"""The frozen backbone of TC-MoA on a pyramid (ours): its levels, and how the sites on them start."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.layers.pyramid import LaplacianPyramid, check_levels

TONES = 3
"""Level on which the tones of the low-pass picture are bent: of 8x8 pixels. Pyramids of three levels or fewer have no curve."""
DEFAULT_CUES = ((1.0, 0.5, 0.0, 0.0, 0.0, 0.0), (1.0, 0.5, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 1.0, 0.0))

Table = Mapping[str, Sequence[Sequence[float]]]


class PyramidBackbone(LaplacianPyramid):
    """What `model/backbone=pyramid` builds: the pyramid, and how the sites on it start.

    Args:
        levels: bands of detail; the base has 1 / 2^levels of the sides.
        width: channels D of a token of a site.
        cues: by task, weights of the cues (`fusion.models.tcmoa.cues.CUES`) in the finest band, in the coarsest and in the base;
            bands between are interpolated.
        gains: by task, initial gains of the details, finest first, and of the base; where fewer are given, the last one serves all
            coarser details, and the base starts at 1.
        gain_bound: largest gain of a detail, and 1 over the smallest.
        offset_bound: most that the base is brightened or darkened.
        chroma: by task, weights of a source's chroma: of its log saturation, of the finest band's prompt, and a constant for `a`.
        clipped: by task, weight against a source's chroma where a channel of it is clipped, which is not trained; None: 0.
        hardness: by task, how far prompts choose in the finest band, the coarsest and the base, see `BandSite`; None: all the way.
        faint: by task, factor on the gain where the detail of all sources is faint, in the finest band and the coarsest; None: 1.
        common: by task, share of one choice for all places in the prompts of the base, 0 to 1, which is not trained; None: 0.
        targets: by task, share of the way that hot targets are lifted on each level for it, 0 to 1, which is not trained; None: 0.
        overview: whether hardness, gains, the common share and the tones follow the pair as a whole, by trained weights that
            start at 0.
        weights: always None.
    """

    def __init__(
        self,
        levels: int = 5,
        width: int = 24,
        cues: Table | None = None,
        gains: Mapping[str, Sequence[float]] | None = None,
        gain_bound: float = 1.6,
        offset_bound: float = 0.15,
        chroma: Mapping[str, Sequence[float]] | None = None,
        clipped: Mapping[str, float] | None = None,
        hardness: Mapping[str, Sequence[float]] | None = None,
        faint: Mapping[str, Sequence[float]] | None = None,
        common: Mapping[str, float] | None = None,
        targets: Mapping[str, float] | None = None,
        overview: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(levels, weights)
        self.hardness, self.faint, self.common, self.overview = hardness, faint, common, overview
        self.targets, self.clipped = dict(targets or {}), dict(clipped or {})
        self.width, self.gain_bound, self.offset_bound = width, gain_bound, offset_bound
        self.cues, self.gains, self.chroma = dict(cues or {}), dict(gains or {}), dict(chroma or {})

    @staticmethod
    def check_config(config: Mapping[str, object]) -> None:
        """Refuse values that cannot be, before anything is built."""
        check_levels(config.get("levels", 5))  # type: ignore[arg-type]
        for key, low in (("gain_bound", 1.0), ("offset_bound", -1e-9)):
            value = config.get(key, 2.0)
            if not isinstance(value, (int, float)) or not low < value <= 4:
                raise ConfigError(f"model.backbone.{key}={value}: expected a number above {max(low, 0):g}, at most 4")
        for key, most in (("common", 1), ("targets", 1), ("clipped", 20)):
            table = config.get(key) or {}
            if not isinstance(table, Mapping):
                raise ConfigError(f"model.backbone.{key}={table}: expected numbers by task, or null")
            for task, weight in table.items():
                if not isinstance(weight, (int, float)) or not 0 <= weight <= most:
                    raise ConfigError(f"model.backbone.{key}.{task}={weight}: expected a number from 0 to {most}")
        for key, count, high in (("hardness", 3, 1.0), ("faint", 2, 4.0)):
            table = config.get(key) or {}
            if not isinstance(table, Mapping):
                raise ConfigError(f"model.backbone.{key}={table}: expected {count} numbers by task, or null")
            for task, row in table.items():
                numbers = isinstance(row, Sequence) and all(isinstance(value, (int, float)) for value in row)
                if not numbers or len(row) != count or not all(0 <= value <= high for value in row):
                    raise ConfigError(f"model.backbone.{key}.{task}={row}: expected {count} numbers from 0 to {high:g}")

    def cue_weights(self, tasks: Sequence[str], level: int) -> Tensor:
        """`(tasks, 6)` initial weights of a level; a task without a row of its own starts as the first that has one."""
        tables = (self.cues.get(task) or next(iter(self.cues.values()), DEFAULT_CUES) for task in tasks)
        return torch.stack([self._at(level, torch.tensor(table, dtype=torch.float32)) for table in tables])

    def hardness_table(self, tasks: Sequence[str], level: int) -> Tensor | None:
        """`(tasks,)` initial hardness of a level."""
        if self.hardness is None:
            return None
        tables = (self.hardness.get(task, (1.0, 1.0, 1.0)) for task in tasks)
        return torch.stack([self._at(level, torch.tensor(table, dtype=torch.float32)) for table in tables])

    def faint_table(self, tasks: Sequence[str], level: int) -> Tensor | None:
        """`(tasks,)` initial factors of a level on the gain of faint detail."""
        if self.faint is None or level == self.levels:
            return None
        tables = (self.faint.get(task, (1.0, 1.0)) for task in tasks)
        return torch.stack([self._at(level, torch.tensor([*table, 1.0])) for table in tables])

    def common_table(self, tasks: Sequence[str], level: int) -> Tensor | None:
        """`(tasks,)` shares of a common choice, at the base."""
        if self.common is None or level < self.levels:
            return None
        return torch.tensor([float(self.common.get(task, 0.0)) for task in tasks])

    def _at(self, level: int, table: Tensor) -> Tensor:
        """What holds at a level, of rows for the finest band, the coarsest and the base."""
        fine, coarse, base = table
        return base if level == self.levels else torch.lerp(fine, coarse, level / max(self.levels - 1, 1))

    def follows(self, level: int) -> tuple[str, ...]:
        """What follows the pair as a whole at a level, names of `fusion.models.tcmoa.overview.Setting`."""
        if not self.overview:
            return ()
        if level == self.levels:
            return ("hardness", "gain", "common", "offset")
        return ("hardness", "gain", "faint", *(("lift", "bend") if level == TONES else ()))

    def gain_table(self, tasks: Sequence[str], level: int) -> Tensor:
        """`(tasks,)` initial gains of a level."""
        rows = [list(self.gains.get(task, (1.0,))) for task in tasks]
        for row in rows:
            details = row[: self.levels]
            row[:] = [*details, *details[-1:] * (self.levels - len(details)), *(row[self.levels :] or [1.0])]
        return torch.tensor([row[level] for row in rows], dtype=torch.float32)
