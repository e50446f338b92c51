"""Which source's colour a fused image has: `color=auto|rgb|ycbcr|luma|a|b`, for every model.

auto   the method's own rule, but a picture that has colour keeps it on whichever side it is, where the method takes the
       chroma of one side only; a pseudo-coloured picture beside one in true colour counts as grey
rgb    the three channels: as they are where the network sees colour, else fused one by one
ycbcr  luma is fused, the chroma of both is merged by its distance from neutral (Liu et al. 2017)
luma   luma is fused, the result is grey
a, b   luma is fused, with the chroma of that source
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.layers.color import join_luma, merge_chroma, split_luma
from fusion.layers.palettes import palette_of
from fusion.models.output import FusionOutput

COLORS = ("auto", "rgb", "ycbcr", "luma", "a", "b")
NativeColor = Literal["rgb", "merged", "a"]
"""Where a method's colour comes from by itself: the network sees RGB, chroma of both is merged, or chroma of `a` is kept."""

Run = Callable[[Tensor, Tensor], FusionOutput]


def check_color(color: str) -> str:
    """Refuse an unknown rule.

    Raises:
        ConfigError: names those that are known.
    """
    if color not in COLORS:
        raise ConfigError(f"color={color}: expected one of {', '.join(COLORS)}")
    return color


def has_color(images: Tensor, level: float = 10 / 255, share: float = 1e-3) -> Tensor:
    """Whether images `(B, 3, H, W)` in [0, 1] show colour: `(B,)` bool.

    JPEG leaves a level or two of chroma in grey pictures; more than `level` on more than `share` of the pixels is colour.
    """
    spread = images.amax(1) - images.amin(1)
    return (spread > level).float().mean((1, 2)) > share


def fuse_in_color(run: Run, a: Tensor, b: Tensor, color: str, native: NativeColor) -> FusionOutput:
    """Fuse two batches under a colour rule.

    Args:
        run: fuses `(B, 3, H, W)` batches in [0, 1].
        a, b: the batches.
        color: one of `COLORS`.
        native: what `run` does with colour by itself.

    Returns:
        The output of `run` with `fused` in the chosen colour, `(B, 1, H, W)` for "luma"; `extras["color"]` says per image what
        was chosen.

    Raises:
        ConfigError: an unknown rule.
    """
    check_color(color)
    if color == "auto":
        return _auto(run, a, b, native)
    if color == "rgb":
        if native == "rgb":
            return _said(run(a, b), "rgb: the network sees colour", len(a))
        outputs = [run(_channel(a, index), _channel(b, index)) for index in range(3)]
        output = outputs[0]
        output.fused = torch.cat([split_luma(_three(one.fused))[0] for one in outputs], dim=1)
        return _said(output, "rgb: each channel by itself", len(a))
    luma_a, chroma_a = split_luma(a)
    luma_b, chroma_b = split_luma(b)
    output = run(luma_a.expand_as(a), luma_b.expand_as(b))
    luma = split_luma(_three(output.fused).float().clamp(0, 1))[0]
    if color == "luma":
        output.fused = luma
        return _said(output, "luma: a grey result", len(a))
    if color == "ycbcr":
        output.fused = join_luma(luma, merge_chroma(chroma_a, chroma_b))
        return _said(output, "ycbcr: luma fused, chroma of both merged", len(a))
    output.fused = join_luma(luma, chroma_a if color == "a" else chroma_b)
    return _said(output, f"{color}: luma fused, chroma of {color}", len(a))


def _auto(run: Run, a: Tensor, b: Tensor, native: NativeColor) -> FusionOutput:
    colored = torch.stack([has_color(a), has_color(b)])
    exporting = torch.compiler.is_exporting()  # a graph takes every colour for true colour
    palettes: list[list[str | None]] = [[], []]
    pseudo = torch.zeros_like(colored)
    if not exporting:
        palettes = [[palette_of(image) if flag else None for image, flag in zip(x, flags.tolist(), strict=True)]
                    for x, flags in zip((a, b), colored, strict=True)]  # fmt: skip
        pseudo = torch.tensor([[name is not None for name in names] for names in palettes], device=a.device)
    real = colored & ~pseudo
    gray = torch.stack([pseudo[0] & real[1], pseudo[1] & real[0]])  # false colour beside true colour
    counts = colored & ~gray
    first, second = (_as_luma(x, mask) for x, mask in zip((a, b), gray, strict=True))
    if native == "a":  # luma of b, where the method takes the first channel of an infrared picture
        second = _as_luma(second, colored[1] & ~gray[1])
    output = run(first, second)
    swap = counts[1] & ~counts[0]
    if native == "a" and output.fused.shape[1] == 3 and (exporting or bool(swap.any())):
        luma = split_luma(output.fused.float().clamp(0, 1))[0]
        output.fused = torch.where(swap[:, None, None, None], join_luma(luma, split_luma(b)[1]), output.fused.float())
    if not exporting:
        output.extras["color"] = [
            _describe(native, bool(counts[0, i]), bool(counts[1, i]), palettes[0][i], palettes[1][i])
            for i in range(len(a))
        ]
    return output


def _describe(native: NativeColor, a: bool, b: bool, palette_a: str | None, palette_b: str | None) -> str:
    if not a and not b:
        text = "auto: both sources are grey"
    elif native == "rgb":
        text = "auto: the network sees the colour of " + ("both" if a and b else "a" if a else "b")
    elif a and b:
        text = "auto: chroma of a" if native == "a" else "auto: chroma of both merged"
    else:
        text = f"auto: chroma of {'a' if a else 'b'}, the source that has colour"
    for side, palette, counts in (("a", palette_a, a), ("b", palette_b, b)):
        if palette:
            used = "its colours are kept" if counts else "only its luma is used"
            text += f"; {side} is pseudo-coloured ({palette}), {used}: luma is not the measured value, export it as grey if you can"
    return text


def _said(output: FusionOutput, text: str, count: int) -> FusionOutput:
    if not torch.compiler.is_exporting():
        output.extras["color"] = [text] * count
    return output


def _channel(images: Tensor, index: int) -> Tensor:
    return images[:, index : index + 1].expand(-1, 3, -1, -1)


def _three(fused: Tensor) -> Tensor:
    return fused.expand(-1, 3, -1, -1) if fused.shape[1] == 1 else fused


def _as_luma(images: Tensor, mask: Tensor) -> Tensor:
    """The same batch, those under the mask as grey."""
    if not torch.compiler.is_exporting() and not bool(mask.any()):
        return images
    return torch.where(mask[:, None, None, None], split_luma(images)[0].expand_as(images), images)
