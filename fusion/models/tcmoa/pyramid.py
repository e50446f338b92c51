"""TC-MoA on a Laplacian pyramid (ours): a frozen backbone that loses nothing, with an adapter site on every band."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.layers.color import join_luma, split_luma
from fusion.layers.pyramid import LaplacianPyramid, check_levels, expand
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.band import BandOutput, BandSite
from fusion.models.tcmoa.chroma import merge_two
from fusion.models.tcmoa.cues import BandCues, band_cues
from fusion.models.tcmoa.network import per_site
from fusion.models.tcmoa.overview import curve, look_at
from fusion.moe.adapters import Adapter, PromptControl
from fusion.moe.routers import TaskWeights, of_task


class Whole(NamedTuple):
    """What a tile has to know of the whole pictures that it is cut from.

    Attributes:
        means: `(B, n, 1, 1)` mean luma of the sources.
        view: `(B, 8)` of the pair, see `fusion.models.tcmoa.overview.look_at`.
        prompts: `(B, n, 1, 1)` mean prompts of the base before they are steered; None where the base makes no common choice.
    """

    means: Tensor
    view: Tensor
    prompts: Tensor | None = None

    @classmethod
    def of(cls, luma: Tensor) -> "Whole":
        """Of whole pictures `(B, n, H, W)` in [0, 1], but for the prompts."""
        return cls(luma.mean((-2, -1), keepdim=True), look_at(luma))


TONES = 3
"""Level on which the tones of the low-pass picture are bent: of 8x8 pixels. Pyramids of three levels or fewer have no curve."""

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
        overview: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(levels, weights)
        self.hardness, self.faint, self.common, self.overview = hardness, faint, common, overview
        self.width, self.gain_bound, self.offset_bound = width, gain_bound, offset_bound
        self.cues, self.gains, self.chroma = dict(cues or {}), dict(gains or {}), dict(chroma or {})
        self.clipped = dict(clipped or {})

    @staticmethod
    def check_config(config: Mapping[str, object]) -> None:
        """Refuse values that cannot be, before anything is built."""
        check_levels(config.get("levels", 5))  # type: ignore[arg-type]
        for key, low in (("gain_bound", 1.0), ("offset_bound", -1e-9)):
            value = config.get(key, 2.0)
            if not isinstance(value, (int, float)) or not low < value <= 4:
                raise ConfigError(f"model.backbone.{key}={value}: expected a number above {max(low, 0):g}, at most 4")
        for task, share in (config.get("common") or {}).items():  # type: ignore[attr-defined]
            if not 0 <= share <= 1:
                raise ConfigError(f"model.backbone.common.{task}={share}: expected a number from 0 to 1")
        for task, weight in (config.get("clipped") or {}).items():  # type: ignore[attr-defined]
            if not 0 <= weight <= 20:
                raise ConfigError(f"model.backbone.clipped.{task}={weight}: expected a number from 0 to 20")
        for key, count, high in (("hardness", 3, 1.0), ("faint", 2, 4.0)):
            for task, row in (config.get(key) or {}).items():  # type: ignore[attr-defined]
                if len(row) != count or not all(0 <= value <= high for value in row):
                    raise ConfigError(
                        f"model.backbone.{key}.{task}={list(row)}: expected {count} numbers from 0 to {high:g}"
                    )

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


DEFAULT_CUES = ((1.0, 0.5, 0.0, 0.0, 0.0, 0.0), (1.0, 0.5, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 1.0, 0.0))


class PyramidNetwork(nn.Module):
    """Fuses `(B, 3, H, W)` pairs of any size, coarse to fine.

    Args:
        backbone: see `PyramidBackbone`.
        adapter: what is trained; an adapter without routed experts leaves the cues alone.
        tasks: in the order of the router banks.
    """

    clipped: Tensor

    def __init__(self, backbone: PyramidBackbone, adapter: Adapter, tasks: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.size_multiple = backbone, 1
        self.tile_grid = 2 ** (backbone.levels + 1)
        sites = {}
        for level in reversed(range(backbone.levels + 1)):
            sites[str(level)] = BandSite(
                backbone.width,
                adapter.band_recipe(),
                len(tasks),
                backbone.cue_weights(tasks, level),
                backbone.gain_table(tasks, level),
                backbone.gain_bound,
                base=level == backbone.levels,
                hardness=backbone.hardness_table(tasks, level),
                faint=backbone.faint_table(tasks, level),
                common=backbone.common_table(tasks, level),
                follows=backbone.follows(level),
            )
        self.sites = nn.ModuleDict(sites)
        rows = [backbone.chroma.get(task, (2.0, 0.0, 0.0)) for task in tasks]
        self.chroma = nn.Parameter(torch.tensor(rows, dtype=torch.float32))
        self.doubts = [float(backbone.clipped.get(task, 0.0)) for task in tasks]
        self.register_buffer("clipped", torch.tensor(self.doubts), persistent=False)

    bytes_per_pixel = 360
    """See `FusionModel`."""

    @property
    def reach(self) -> int:
        """Pixels beyond a tile's edge that what lies within can see: the tokens of all levels look about, coarse to fine."""
        top = 2**self.backbone.levels
        base = 6 * top  # energies of 5x5, two convolutions, a smoothing, an interpolation
        return base + sum(7 * 2 ** (level + 1) for level in range(self.backbone.levels))

    @property
    def agrees(self) -> bool:
        """Whether the base makes a choice that is common to all places."""
        return any(site.common is not None for site in self.sites.values())

    @property
    def site_names(self) -> list[str]:
        """Sites from the base to the finest band, in the order of a forward pass."""
        return [f"level.{level}" for level in self.sites]

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        task: TaskWeights | list[TaskWeights],
        control: PromptControl | list[PromptControl] | None = None,
        whole: Whole | None = None,
    ) -> FusionOutput:
        """Fuse RGB pairs in [0, 1].

        Args:
            a, b: `(B, 3, H, W)`.
            task: index or `(num_tasks,)` weights of the routers, one for all sites or one per site.
            control: steering of the prompts, one for all sites or one per site.
            whole: of the whole sources, where these are tiles.

        Returns:
            `FusionOutput` with prompts and routings from the base to the finest band; `extras` has the base of the luma pyramid:
            "base" fused, "base_sources" `(B, 2, h, w)`, "base_prompts" `(B, 2, h, w)`.
        """
        with torch.autocast(a.device.type, enabled=False):  # differences of large numbers and logarithms need float32
            return self._fuse(a.float(), b.float(), task, control or PromptControl(), whole)

    def _fuse(
        self,
        a: Tensor,
        b: Tensor,
        task: TaskWeights | list[TaskWeights],
        control: PromptControl | list[PromptControl],
        whole: Whole | None,
    ) -> FusionOutput:
        (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
        luma = torch.cat([luma_a, luma_b], dim=1)  # (B, 2, H, W)
        means, view, overall = Whole.of(luma) if whole is None else whole
        pictures = self.backbone.gaussians(luma)
        bands = self.backbone.bands(pictures)
        cues = self.cues(bands, pictures, means)
        output = FusionOutput(fused=a)
        tasks, controls = per_site(task, self.site_names), per_site(control, self.site_names)
        fused, context = luma[:, :1], None
        for name, (key, site) in zip(self.site_names, self.sites.items(), strict=True):
            level = int(key)
            common = overall if site.base else None
            seen: BandOutput = site(cues[level], context, tasks[name], controls[name], view, common)
            band = (seen.prompts * bands[level]).sum(1, keepdim=True)
            if level == self.backbone.levels:
                pivot = means.mean(1, keepdim=True)  # the base's gain is contrast about the pictures' mean
                fused = pivot + seen.gain * (band - pivot) + self.backbone.offset_bound * seen.offset
                output.extras |= {"base": fused, "base_sources": bands[level], "base_prompts": seen.prompts}
            else:
                fused = seen.gain * band + expand(fused, band.shape[-2:])
                if level == TONES:
                    fused = curve(fused, seen.setting)
            context = seen.context
            output.sites.append(name)
            output.prompts.append(seen.prompts)
            if seen.routing is not None:
                output.routings.append(seen.routing)
        weights, doubt = self.chroma_weights(tasks[name])
        chroma = merge_two((a, b), (chroma_a - 0.5, chroma_b - 0.5), seen.prompts, weights, doubt)
        output.fused = join_luma(fused, chroma + 0.5)
        return output

    def cues(self, bands: list[Tensor], pictures: list[Tensor], means: Tensor) -> list[BandCues]:
        """Cues of every level, finest first, of two sources or more; see `band_cues`."""
        cues: list[BandCues] = []
        for level, (band, picture) in enumerate(zip(bands, pictures, strict=True)):
            base = level == self.backbone.levels
            finer = cues[-1].detail if cues else None
            cues.append(band_cues(picture - means if base else band, picture, means, finer, base))
        return cues

    def chroma_weights(self, task: TaskWeights) -> tuple[Tensor, Tensor | None]:
        """What `fusion.models.tcmoa.chroma` weighs for a task; a task that does not doubt spends no time on it."""
        doubts = self.doubts[task] if isinstance(task, int) else any(self.doubts)
        return of_task(self.chroma, task), of_task(self.clipped, task) if doubts else None
