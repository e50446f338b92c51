"""TC-MoA on a pyramid for any number of sources: prompts p_1 + ... + p_n = 1 from the evidence of all pairs.

A site scores the two sources of a pair: d_ij = s_i - s_j is the logit of its prompt. Of n sources every pair goes through
the sites as two sources do, and the logits of all pairs become one score per source by least squares,

    u = argmin sum_(i<j) (u_i - u_j - d_ij)^2   with sum_i u_i = 0,   so   u_i = (1 / n) sum_j d_ij

(the potential of HodgeRank on a complete graph: Jiang, Lim, Yao and Ye 2011). The prompts are the softmax of u. With two
sources that is the sigmoid of d_12, the two-source network itself. Gain and offset are means over the pairs, weighted by
p_i p_j. In a pair the brighter source is `a`, as in training on exposures; so the order in which sources are given does not
matter (`fusion.models.many` sorts them).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.layers.box import pool
from fusion.layers.color import join_luma, split_luma
from fusion.layers.pyramid import expand
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.band import BandSite, Evidence
from fusion.models.tcmoa.chroma import merge_many
from fusion.models.tcmoa.cues import BandCues, likeness
from fusion.models.tcmoa.network import per_site
from fusion.models.tcmoa.pyramid import PyramidNetwork, Whole
from fusion.models.tcmoa.tiles import TILE, WHOLE, whole_of, without_border
from fusion.models.tiled import Reach, tiles_of
from fusion.moe.adapters import PromptControl
from fusion.moe.routers import TaskWeights

Pair = tuple[int, int]


def fuse_pyramid_of_many(
    sources: Sequence[Tensor],
    network: PyramidNetwork,
    task: TaskWeights | list[TaskWeights],
    control: PromptControl | list[PromptControl] | None = None,
    whole: int = WHOLE,
    tile: int = TILE,
) -> FusionOutput:
    """Fuse n sources `(1, 3, H, W)` of any size, as `fusion.models.tcmoa.tiles.fuse_pyramid` does with two."""
    height, width = sources[0].shape[-2:]
    sources = [reflect_to_multiple(source, network.tile_grid) for source in sources]
    rows, columns = sources[0].shape[-2:]
    if rows * columns <= whole:
        output = fuse_sources(network, sources, task, control)
    else:
        fused = torch.empty_like(sources[0])
        tiles = tiles_of(fused, tile, Reach(network.reach, network.tile_grid))

        def prompts(lumas: Sequence[Tensor], known: Whole) -> Tensor:
            return base_prompts(network, lumas, task, known)

        known = whole_of(sources, network, tiles, prompts)
        for piece in tiles:
            output = fuse_sources(network, [piece.cut(source) for source in sources], task, control, known)
            piece.paste(output.fused, fused)
        output.fused = fused
    output.fused = output.fused[..., :height, :width]
    output.prompts = without_border(output, height, width)
    return output


def fuse_sources(
    network: PyramidNetwork,
    sources: Sequence[Tensor],
    task: TaskWeights | list[TaskWeights],
    control: PromptControl | list[PromptControl] | None = None,
    whole: Whole | None = None,
) -> FusionOutput:
    """Fuse n sources.

    Args:
        network: of two sources, as trained.
        sources: `(B, 3, H, W)` each, RGB in [0, 1], the brightest first.
        task, control: see `PyramidNetwork.forward`; beta has no meaning for more than two sources.
        whole: of the whole sources, where these are tiles.

    Returns:
        `FusionOutput` with prompts `(B, n, h, w)` from the base to the finest band, in the order of the sources.

    Raises:
        ConfigError: beta with more than two sources.
    """
    with torch.autocast(sources[0].device.type, enabled=False):
        return _fuse(network, [source.float() for source in sources], task, control or PromptControl(), whole)


def _fuse(
    network: PyramidNetwork,
    sources: list[Tensor],
    task: TaskWeights | list[TaskWeights],
    control: PromptControl | list[PromptControl],
    whole: Whole | None,
) -> FusionOutput:
    split = [split_luma(source) for source in sources]
    luma = torch.cat([one for one, _ in split], dim=1)  # (B, n, H, W)
    known = Whole.of(luma) if whole is None else whole
    pictures = network.backbone.gaussians(luma)
    bands = network.backbone.bands(pictures)
    cues = network.cues(bands, pictures, known.means)
    names = network.site_names
    tasks, controls = per_site(task, names), per_site(control, names)
    count = len(sources)
    measured = [*bands[:-1], pictures[-1] - known.means]  # what the cues were measured on
    scores, pairs = _all_pairs(network, measured, cues, tasks)
    output = FusionOutput(fused=sources[0])
    fused = luma[:, :1]
    for index, (name, (key, site)) in enumerate(zip(names, _sites(network), strict=True)):
        level = int(key)
        band, energy = bands[level], cues[level].energy
        chosen = site.spread(scores[index], energy, tasks[name]).softmax(1)
        setting = site.setting(known.view, tasks[name])
        soft = site.soften(chosen, tasks[name], setting)
        prompts = _steer(controls[name], site.agree(soft, tasks[name], setting, known.prompts if site.base else None))
        weights = _pair_weights(pool(prompts, 1 if site.base else 2), count)
        gain = site.gain_of(_weighted(weights, (seen.gain for seen in pairs[index])), energy, tasks[name], setting)
        mixed = (prompts * band).sum(1, keepdim=True)
        if site.base:
            pivot = known.means.mean(1, keepdim=True)
            offset = _weighted(weights, (seen.offset for seen in pairs[index])) + setting.offset
            fused = pivot + gain * (mixed - pivot) + network.backbone.offset_bound * offset
        else:
            fused = gain * mixed + expand(fused, band.shape[-2:])
            fused = network.toned(fused, level, setting, pictures, known, tasks[name])
        output.sites.append(name)
        output.prompts.append(prompts)
    weights, doubt = network.chroma_weights(tasks[name])
    chroma = merge_many(sources, [part - 0.5 for _, part in split], prompts, weights, doubt)
    output.fused = join_luma(fused, chroma + 0.5)
    return output


def base_prompts(
    network: PyramidNetwork, lumas: Sequence[Tensor], task: TaskWeights | list[TaskWeights], whole: Whole
) -> Tensor:
    """Prompts of the base of two sources or more, `(B, n, h, w)` in [0, 1], before a common choice and before they are steered.

    Args:
        network: of two sources, as trained.
        lumas: `(B, 1, H, W)` of the sources, in [0, 1].
        task: see `PyramidNetwork.forward`.
        whole: of the whole sources; its prompts are what is looked for.
    """
    pictures = network.backbone.gaussians(torch.cat(list(lumas), dim=1))
    cues = network.cues(network.backbone.bands(pictures), pictures, whole.means)
    tasks = per_site(task, network.site_names)
    name, (_, site) = network.site_names[0], _sites(network)[0]
    scores, _ = _all_pairs(network, [*pictures[:-1], pictures[-1] - whole.means], cues, tasks, sites=1)
    chosen = site.spread(scores[0], cues[-1].energy, tasks[name]).softmax(1)
    return site.soften(chosen, tasks[name], site.setting(whole.view, tasks[name]))


def _all_pairs(
    network: PyramidNetwork,
    bands: list[Tensor],
    cues: list[BandCues],
    tasks: dict[str, TaskWeights],
    sites: int | None = None,
) -> tuple[list[Tensor], list[list[Evidence]]]:
    """Scores `(B, n, h', w')` of the sources on the first sites, or all, and what each pair says there of gain and offset."""
    count = bands[0].shape[1]
    names = network.site_names[:sites]
    scores: list[Tensor] = [cues[int(key)].tokens[:, :, 0] * 0 for key in network.sites]
    said: list[list[Evidence]] = [[] for _ in names]
    for first, second in combinations(range(count), 2):
        context = None
        for index, (name, (key, site)) in enumerate(zip(names, _sites(network)[:sites], strict=True)):
            level = int(key)
            seen = site.evidence(_of_pair(cues[level], bands[level], (first, second), site.base), context, tasks[name])
            context = seen.context
            share = context[1][:, 0] / count
            scores[index][:, first] += share
            scores[index][:, second] -= share
            nothing = seen.features[:, :0]  # a pair's own features are not needed any more
            said[index].append(Evidence(nothing, seen.gain, seen.offset, nothing, None))
    return scores, said


def _sites(network: PyramidNetwork) -> list[tuple[str, BandSite]]:
    return [(key, site) for key, site in network.sites.items() if isinstance(site, BandSite)]


def _of_pair(cues: BandCues, bands: Tensor, pair: Pair, base: bool) -> BandCues:
    chosen = list(pair)
    side = 1 if base else 2
    local = pool(bands[:, chosen].square(), side)
    match = likeness(bands[:, chosen], local, side)
    return BandCues(cues.energy[:, chosen], cues.tokens[:, chosen], match, cues.detail[:, chosen])


def _pair_weights(prompts: Tensor, count: int) -> Tensor:
    """`(B, pairs, h', w')`, p_i p_j over their sum; nowhere zero, so that one pair has all the weight."""
    products = [prompts[:, i] * prompts[:, j] + 1e-6 for i, j in combinations(range(count), 2)]
    weights = torch.stack(products, dim=1)
    return weights / weights.sum(1, keepdim=True)


def _weighted(weights: Tensor, values: Iterator[Tensor]) -> Tensor:
    total = weights[:, :1] * 0
    for index, value in enumerate(values):
        total = total + weights[:, index : index + 1] * value
    return total


def _steer(control: PromptControl, prompts: Tensor) -> Tensor:
    """Eq. of Sec. 4.6 for n sources: p_i' = c + alpha (p_i - c) with c at the same share as with two sources."""
    count = prompts.shape[1]
    if count == 2:
        return control(prompts)
    if control.beta != 0:
        raise ConfigError(f"control.beta={control.beta}: favours a or b, and has no meaning for {count} sources")
    center = 2 * control.center / count
    return prompts if control.alpha == 1 else center + control.alpha * (prompts - center)
