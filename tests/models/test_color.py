"""Whose colour a fused image has, for every kind of method; false colours are recognised."""

import pytest
import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.layers.color import join_luma, merge_chroma, split_luma
from fusion.layers.palettes import palette_of, palettes
from fusion.models.color import fuse_in_color, has_color
from fusion.models.output import FusionOutput

GENERATOR = torch.Generator().manual_seed(0)


def smooth(seed: int) -> Tensor:
    small = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (40, 48), mode="bicubic").clamp(0, 1)


COLOR = smooth(1)
GRAY = split_luma(smooth(2))[0].expand(-1, 3, -1, -1)


def network_rgb(a: Tensor, b: Tensor) -> FusionOutput:
    return FusionOutput(0.5 * a + 0.5 * b)


def network_luma_of_a(a: Tensor, b: Tensor) -> FusionOutput:
    """As T-OAR and MoE-Fusion: the first channel of b, the chroma of a."""
    luma, chroma = split_luma(a)
    return FusionOutput(join_luma((luma + b[:, :1]) / 2, chroma))


def network_merged(a: Tensor, b: Tensor) -> FusionOutput:
    (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
    return FusionOutput(join_luma((luma_a + luma_b) / 2, merge_chroma(chroma_a, chroma_b)))


NETWORKS = {"rgb": network_rgb, "a": network_luma_of_a, "merged": network_merged}


def chroma(image: Tensor) -> Tensor:
    return (split_luma(image)[1] - 0.5).abs().mean()


@pytest.mark.parametrize("native", NETWORKS)
def test_a_picture_in_colour_keeps_it_on_either_side(native: str) -> None:
    run = NETWORKS[native]
    for a, b, side in ((COLOR, GRAY, "a"), (GRAY, COLOR, "b")):
        output = fuse_in_color(run, a, b, "auto", native)  # type: ignore[arg-type]
        assert bool(has_color(output.fused)) and chroma(output.fused) > 0.4 * chroma(COLOR)
        assert side in output.extras["color"][0] and output.extras["color"][0].startswith("auto")
    first = fuse_in_color(run, COLOR, GRAY, "auto", native).fused  # type: ignore[arg-type]
    assert torch.equal(first, run(COLOR, GRAY).fused)  # the method's own rule, to the bit
    gray = fuse_in_color(run, GRAY, GRAY, "auto", native)  # type: ignore[arg-type]
    assert not bool(has_color(gray.fused)) and "both sources are grey" in gray.extras["color"][0]


@pytest.mark.parametrize("native", NETWORKS)
def test_rules_by_name(native: str) -> None:
    run, other = NETWORKS[native], smooth(3)
    mean = (split_luma(COLOR)[0] + split_luma(other)[0]) / 2
    chroma_a, chroma_b = split_luma(COLOR)[1], split_luma(other)[1]
    expected = {
        "rgb": (COLOR + other) / 2,
        "luma": mean,
        "a": join_luma(mean, chroma_a),
        "b": join_luma(mean, chroma_b),
        "ycbcr": join_luma(mean, merge_chroma(chroma_a, chroma_b)),
    }
    for rule, image in expected.items():
        output = fuse_in_color(run, COLOR, other, rule, native)  # type: ignore[arg-type]
        torch.testing.assert_close(output.fused, image, rtol=0, atol=2e-3)
        assert output.extras["color"][0].startswith(rule)
    with pytest.raises(ConfigError, match="color=grey: expected one of auto, rgb, ycbcr, luma, a, b"):
        fuse_in_color(run, COLOR, other, "grey", native)  # type: ignore[arg-type]


def test_every_image_of_a_batch_is_judged_by_itself() -> None:
    a, b = torch.cat([COLOR, GRAY, GRAY]), torch.cat([GRAY, COLOR, GRAY])
    output = fuse_in_color(network_luma_of_a, a, b, "auto", "a")
    assert has_color(output.fused).tolist() == [True, True, False]
    for index in range(3):
        alone = fuse_in_color(network_luma_of_a, a[index : index + 1], b[index : index + 1], "auto", "a").fused
        torch.testing.assert_close(output.fused[index : index + 1], alone)


def test_palettes_are_recognised_and_photographs_are_not() -> None:
    field = smooth(4)[0, 0]
    field = (field - field.min()) / (field.max() - field.min())
    for name, curve in palettes().items():
        image = curve[(field * 255).long()].permute(2, 0, 1)
        assert palette_of((image + 0.02 * torch.randn(image.shape, generator=GENERATOR)).clamp(0, 1)) == name
    assert palette_of(COLOR[0]) is None and palette_of(smooth(7)[0]) is None and palette_of(GRAY[0]) is None
    assert palette_of(torch.zeros(3, 9, 9)) is None and palette_of(torch.rand(3, 1, 1)) is None


@pytest.mark.parametrize("native", NETWORKS)
def test_false_colour_beside_true_colour_counts_as_grey_and_is_said(native: str) -> None:
    field = smooth(4)[0, 0].clamp(0, 1)
    iron = palettes()["iron"][(field * 255).long()].permute(2, 0, 1)[None]
    output = fuse_in_color(NETWORKS[native], COLOR, iron, "auto", native)  # type: ignore[arg-type]
    told = output.extras["color"][0]
    assert "b is pseudo-coloured (iron), only its luma is used" in told
    gray_iron = split_luma(iron)[0].expand_as(iron)
    torch.testing.assert_close(output.fused, NETWORKS[native](COLOR, gray_iron).fused)
    beside_gray = fuse_in_color(NETWORKS[native], GRAY, iron, "auto", native)  # type: ignore[arg-type]
    assert bool(has_color(beside_gray.fused)) and "its colours are kept" in beside_gray.extras["color"][0]
