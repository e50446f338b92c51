"""TC-MoA on a Laplacian pyramid (ours): a frozen backbone that loses nothing, with an adapter site on every band."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.layers.color import join_luma, split_luma
from fusion.layers.pyramid import expand
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.backbone import TONES, PyramidBackbone
from fusion.models.tcmoa.band import BandOutput, BandSite
from fusion.models.tcmoa.chroma import merge_two
from fusion.models.tcmoa.cues import BandCues, band_cues
from fusion.models.tcmoa.network import per_site
from fusion.models.tcmoa.overview import Setting, curve, look_at
from fusion.models.tcmoa.targets import LEVELS as LIFTED
from fusion.models.tcmoa.targets import lifted, rarity
from fusion.moe.adapters import Adapter, PromptControl
from fusion.moe.routers import TaskWeights, of_task


class Whole(NamedTuple):
    """What a tile has to know of the whole pictures that it is cut from.

    Attributes:
        means: `(B, n, 1, 1)` mean luma of the sources.
        deviations: `(B, n, 1, 1)` its standard deviation.
        rarity: `(B, n, 1, 1)` of what stands out in the sources, see `fusion.models.tcmoa.targets.rarity`.
        view: `(B, 8)` of the pair, see `fusion.models.tcmoa.overview.look_at`.
        prompts: `(B, n, 1, 1)` mean prompts of the base before they are steered; None where the base makes no common choice.
    """

    means: Tensor
    deviations: Tensor
    rarity: Tensor
    view: Tensor
    prompts: Tensor | None = None

    @classmethod
    def of(cls, luma: Tensor) -> "Whole":
        """Of whole pictures `(B, n, H, W)` in [0, 1], but for the prompts."""
        means = luma.mean((-2, -1), keepdim=True)
        deviations = (luma - means).square().mean((-2, -1), keepdim=True).sqrt()
        return cls(means, deviations, rarity(luma, deviations), look_at(luma))


class PyramidNetwork(nn.Module):
    """Fuses `(B, 3, H, W)` pairs of any size, coarse to fine.

    Args:
        backbone: see `PyramidBackbone`.
        adapter: what is trained; an adapter without routed experts leaves the cues alone.
        tasks: in the order of the router banks.
    """

    clipped: Tensor
    targets: Tensor

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
        self.doubts, self.shares = (
            [float(table.get(task, 0.0)) for task in tasks] for table in (backbone.clipped, backbone.targets)
        )
        self.register_buffer("clipped", torch.tensor(self.doubts), persistent=False)
        self.register_buffer("targets", torch.tensor(self.shares), persistent=False)

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
        known = Whole.of(luma) if whole is None else whole
        pictures = self.backbone.gaussians(luma)
        bands = self.backbone.bands(pictures)
        cues = self.cues(bands, pictures, known.means)
        output = FusionOutput(fused=a)
        tasks, controls = per_site(task, self.site_names), per_site(control, self.site_names)
        fused, context = luma[:, :1], None
        for name, (key, site) in zip(self.site_names, self.sites.items(), strict=True):
            level = int(key)
            common = known.prompts if site.base else None
            seen: BandOutput = site(cues[level], context, tasks[name], controls[name], known.view, common)
            band = (seen.prompts * bands[level]).sum(1, keepdim=True)
            if level == self.backbone.levels:
                pivot = known.means.mean(1, keepdim=True)  # the base's gain is contrast about the pictures' mean
                fused = pivot + seen.gain * (band - pivot) + self.backbone.offset_bound * seen.offset
                output.extras |= {"base": fused, "base_sources": bands[level], "base_prompts": seen.prompts}
            else:
                fused = seen.gain * band + expand(fused, band.shape[-2:])
                fused = self.toned(fused, level, seen.setting, pictures, known, tasks[name])
            context = seen.context
            output.sites.append(name)
            output.prompts.append(seen.prompts)
            if seen.routing is not None:
                output.routings.append(seen.routing)
        weights, doubt = self.chroma_weights(tasks[name])
        chroma = merge_two((a, b), (chroma_a - 0.5, chroma_b - 0.5), seen.prompts, weights, doubt)
        output.fused = join_luma(fused, chroma + 0.5)
        return output

    def toned(
        self,
        fused: Tensor,
        level: int,
        setting: Setting,
        pictures: list[Tensor],
        whole: Whole,
        task: TaskWeights,
    ) -> Tensor:
        """A fused low-pass picture of a level, its tones bent and hot targets lifted on the levels for it; see `lifted`."""
        if level == TONES:
            fused = curve(fused, setting)
        if level in LIFTED and _asked(self.shares, task):
            share = of_task(self.targets, task) * whole.rarity
            fused = lifted(fused, pictures[level], pictures[-1], whole.deviations, share)
        return fused

    def cues(self, bands: list[Tensor], pictures: list[Tensor], means: Tensor) -> list[BandCues]:
        """Cues of every level, finest first, of two sources or more; see `band_cues`."""
        cues: list[BandCues] = []
        for level, (band, picture) in enumerate(zip(bands, pictures, strict=True)):
            base = level == self.backbone.levels
            finer = cues[-1].detail if cues else None
            cues.append(band_cues(picture - means if base else band, picture, means, finer, base))
        return cues

    def chroma_weights(self, task: TaskWeights) -> tuple[Tensor, Tensor | None]:
        """What `fusion.models.tcmoa.chroma` weighs for a task."""
        return of_task(self.chroma, task), of_task(self.clipped, task) if _asked(self.doubts, task) else None


def _asked(values: list[float], task: TaskWeights) -> bool:
    """Whether a task may ask for something; one that does not spends no time on it."""
    return bool(values[task]) if isinstance(task, int) else any(values)
