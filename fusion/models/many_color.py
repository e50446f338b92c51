"""Colour rules of `fusion.models.color` for more than two sources."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fusion.layers.color import join_luma, split_luma
from fusion.layers.palettes import palette_of
from fusion.models.color import NativeColor, check_color, has_color
from fusion.models.output import FusionOutput

RunAll = Callable[[Sequence[Tensor]], FusionOutput]


def fuse_many_in_color(run: RunAll, images: Sequence[Tensor], color: str, native: NativeColor) -> FusionOutput:
    """Fuse n batches under a colour rule.

    Args:
        run: fuses `(B, 3, H, W)` batches in [0, 1].
        images: the batches.
        color: "auto", "rgb", "ycbcr", "luma", or "a", "b" for the chroma of the first or the second source.
        native: what the method does with colour by itself. Where it takes the chroma of one source, luma is fused and the
            chroma of all sources that have colour is merged by its distance from neutral, so that their order is no matter.

    Returns:
        Output of `run` with `fused` in the chosen colour, `(B, 1, H, W)` for "luma"; `extras["color"]` says what was chosen.

    Raises:
        ConfigError: an unknown rule.
    """
    check_color(color)
    count = len(images[0])
    if color == "rgb":
        if native == "rgb":
            return _said(run(images), "rgb: the network sees colour", count)
        outputs = [run([x[:, i : i + 1].expand(-1, 3, -1, -1) for x in images]) for i in range(3)]
        outputs[0].fused = torch.cat([_luma(one.fused) for one in outputs], dim=1)
        return _said(outputs[0], "rgb: each channel by itself", count)
    if color == "auto":
        return _auto(run, images, native)
    split = [split_luma(x) for x in images]
    output = run([luma.expand_as(x) for (luma, _), x in zip(split, images, strict=True)])
    luma = _luma(output.fused)
    if color == "luma":
        output.fused = luma
        return _said(output, "luma: a grey result", count)
    chroma = [part for _, part in split]
    if color == "ycbcr":
        output.fused = join_luma(luma, merge(chroma))
        return _said(output, "ycbcr: luma fused, chroma of all merged", count)
    output.fused = join_luma(luma, chroma[0 if color == "a" else 1])
    return _said(output, f"{color}: luma fused, chroma of the {'first' if color == 'a' else 'second'} source", count)


def _auto(run: RunAll, images: Sequence[Tensor], native: NativeColor) -> FusionOutput:
    colored = torch.stack([has_color(x) for x in images])  # (n, B)
    false = torch.stack(
        [
            torch.tensor([bool(flag) and palette_of(image) is not None for image, flag in zip(x, flags, strict=True)])
            for x, flags in zip(images, colored.tolist(), strict=True)
        ]
    ).to(colored.device)
    real = colored & ~false
    counts = colored & ~(false & real.any(0))  # false colour beside true colour counts as grey
    if native == "rgb":
        output = run([_gray_where(x, c & ~k) for x, c, k in zip(images, colored, counts, strict=True)])
        how = "the network sees the colour of {0}"
    else:
        output = run([split_luma(x)[0].expand_as(x) for x in images])
        chroma = [
            torch.where(k[:, None, None, None], split_luma(x)[1], 0.5) for x, k in zip(images, counts, strict=True)
        ]
        output.fused = join_luma(_luma(output.fused), merge(chroma))
        how = "luma fused, chroma of {0}"
    lines = []
    for index in range(counts.shape[1]):
        shown = [str(i + 1) for i in range(len(images)) if counts[i, index]]
        which = "all sources" if len(shown) == len(images) else f"source {', '.join(shown)} of {len(images)}"
        text = f"auto: {how.format(which)}" if shown else "auto: all sources are grey"
        if bool((false & ~counts)[:, index].any()):
            text += "; of pseudo-coloured ones only the luma is used"
        lines.append(text)
    output.extras["color"] = lines
    return output


def merge(chroma: Sequence[Tensor]) -> Tensor:
    """Chroma of several sources, each weighed by its distance from neutral; `fusion.layers.color.merge_chroma` for n.

    Args:
        chroma: `(B, 2, H, W)` each, in [0, 1].
    """
    stack = torch.stack(list(chroma))
    weights = (stack - 0.5).abs()
    total = weights.sum(0)
    return torch.where(total > 0, (weights * stack).sum(0) / total.clamp_min(1e-12), 0.5)


def _luma(fused: Tensor) -> Tensor:
    fused = fused.float().clamp(0, 1)
    return split_luma(fused)[0] if fused.shape[1] == 3 else fused


def _gray_where(images: Tensor, mask: Tensor) -> Tensor:
    if not bool(mask.any()):
        return images
    return torch.where(mask[:, None, None, None], split_luma(images)[0].expand_as(images), images)


def _said(output: FusionOutput, text: str, count: int) -> FusionOutput:
    output.extras["color"] = [text] * count
    return output
