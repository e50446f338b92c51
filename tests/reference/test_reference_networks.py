"""Released fusion networks: the weights' keys and shapes, strict loading, colour handling, and the published pictures."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from fusion.api import compose, load_model
from fusion.data.files.image import read_image
from fusion.errors import ConfigError, WeightsError
from fusion.job.config import check
from fusion.layers.color import split_luma
from fusion.models.baselines import LaplacianPyramid
from fusion.models.reference import DenseFuseNetwork, IFCNNNetwork, ReferenceFusion, SeAFusionNetwork

RELEASED = json.loads((Path(__file__).parents[1] / "data/reference/state_dicts.json").read_text())
NETWORKS = {"seafusion": SeAFusionNetwork, "ifcnn": IFCNNNetwork}
needs_weights = pytest.mark.skipif("FUSION_REFERENCE_DIR" not in os.environ, reason="needs the released weights")


def pair(height=33, width=42, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, height, width, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_and_shapes_are_those_of_the_released_file(name, tmp_path):
    own = {key: list(value.shape) for key, value in NETWORKS[name]().state_dict().items()}
    released = RELEASED[name]
    assert released.items() <= own.items()
    assert all(key.endswith("num_batches_tracked") for key in own.keys() - released.keys())
    generator = torch.Generator().manual_seed(1)
    state = {key: torch.rand(shape, generator=generator) for key, shape in released.items()}
    torch.save(state, tmp_path / "released.pth")
    model = load_model(name, tmp_path / "released.pth")
    assert isinstance(model, ReferenceFusion)
    key = next(key for key in state if key.endswith("conv.weight"))
    assert torch.equal(model.network.state_dict()[key], state[key])
    fused = model.fuse(*pair()).fused
    assert fused.shape == (2, 3, 33, 42) and fused.isfinite().all()
    state["extra"] = torch.zeros(1)
    state.pop(key)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=rf"do not fit .*missing \['{key}'\].*unexpected \['extra'\]"):
        load_model(name, tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("network", "count"), [(SeAFusionNetwork, 166_883), (IFCNNNetwork, 83_587), (DenseFuseNetwork, 74_193)]
)
def test_number_of_weights(network, count):
    assert sum(parameter.numel() for parameter in network().parameters()) == count


@pytest.mark.parametrize("name", ["seafusion", "ifcnn", "densefuse"])
def test_without_weights_the_line_says_where_they_are(name):
    model = load_model(name)
    with pytest.raises(
        WeightsError, match=r"no trained weights.*not part of this package.*https://github.com/.*ckpt_path=FILE"
    ):
        model.fuse(*pair())
    assert load_model(name, allow_untrained=True).fuse(*pair()).fused.shape == (2, 3, 33, 42)
    with pytest.raises(ConfigError, match="compared with, not trained"):
        model.losses(None, {})


class Second(nn.Module):
    """Gives its second input back."""

    def forward(self, first, second):
        return second


def test_colour_of_any_network():
    a, b = pair(16, 20)
    for model, wanted in (
        (ReferenceFusion(Second()), b),
        (ReferenceFusion(Second(), swap=True), a),
        (ReferenceFusion(Second(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.1]), b),
    ):
        torch.testing.assert_close(model.fuse(a, b).fused, wanted, atol=1e-6, rtol=0)
    for chroma, source in (("a", a), ("b", b)):
        luma, colour = split_luma(
            ReferenceFusion(Second(), sees="luma", chroma=chroma)(0.3 + 0.4 * a, 0.3 + 0.4 * b).fused
        )
        torch.testing.assert_close(luma, split_luma(0.3 + 0.4 * b)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(colour, split_luma(0.3 + 0.4 * source)[1], atol=1e-5, rtol=0)
    stretched = ReferenceFusion(Second(), stretch=True)(a, 0.4 + 0.2 * b).fused
    assert stretched.amin((1, 2, 3)).tolist() == [0, 0] and stretched.amax((1, 2, 3)).tolist() == [1, 1]
    flat = torch.full_like(a, 0.3)
    torch.testing.assert_close(ReferenceFusion(Second(), stretch=True)(a, flat).fused, flat)


class Even(Second):
    """Accepts sides that are multiples of 8 only."""

    def forward(self, first, second):
        assert not second.shape[-1] % 8 and not second.shape[-2] % 8
        return second


def test_sizes_that_the_network_does_not_take_are_padded():
    a, b = pair(13, 21)
    torch.testing.assert_close(ReferenceFusion(Even(), multiple=8).fuse(a, b).fused, b)


def test_batches_and_single_images_agree(tmp_path):
    torch.manual_seed(0)
    a, b = pair()
    for name, network in (
        ("seafusion", SeAFusionNetwork()),
        ("densefuse", DenseFuseNetwork()),
        ("ifcnn", IFCNNNetwork()),
    ):
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
        model = load_model(name, tmp_path / f"{name}.pth")
        both = model.fuse(a, b).fused
        torch.testing.assert_close(both[1:], model.fuse(a[1:], b[1:]).fused, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=ifcnn", "model.network.rule=min"], r"model.network.rule=min: expected one of max, sum, mean"),
        (["model=densefuse", "model.network.rule=max"], r"model.network.rule=max: expected one of addition, l1"),
        (["model=ifcnn", "model.sees=grey"], "model.sees=grey: expected one of rgb, luma"),
        (["model=ifcnn", "model.sees=luma"], "model.mean has 3 values, expected 1 for sees=luma"),
        (["model=ifcnn", "+model.chroma=c"], "model.chroma=c: expected one of a, b, weighted"),
    ],
)
def test_impossible_choices_are_named(overrides, said):
    from fusion.api import build_model

    with pytest.raises(ConfigError, match=said):
        build_model(check(compose("predict", overrides, "model"), "model"), None)


def test_densefuse_rules():
    torch.manual_seed(0)
    first, second = DenseFuseNetwork(), DenseFuseNetwork("l1")
    second.load_state_dict(first.state_dict())
    a, b = (image[:, :1] for image in pair())
    torch.testing.assert_close(first(a, a), second(a, a))  # one image: every rule gives its features back
    assert not torch.allclose(first(a, b), second(a, b))


def test_laplacian_pyramid_keeps_an_image_and_takes_the_sharper_one():
    a, b = pair(64, 70)
    model = LaplacianPyramid()
    torch.testing.assert_close(model.fuse(a, a).fused, a, atol=1e-6, rtol=0)
    sharp, soft = a[:1], a[:1].mean((2, 3), keepdim=True).expand_as(a[:1])
    fused = LaplacianPyramid(1).fuse(sharp, soft).fused
    assert (fused - sharp).abs().mean() < 0.5 * (soft - sharp).abs().mean()
    assert LaplacianPyramid(9).fuse(b[..., :5, :5], b[..., :5, :5]).fused.shape == (2, 3, 5, 5)
    with pytest.raises(ConfigError, match="model.levels=0"):
        LaplacianPyramid(0)


# With the released weights and the benchmarks' published pictures -------------------------------------------------------


def psnr(first, second):
    return float(-10 * ((first - second) ** 2).mean().log10())


@needs_weights
@pytest.mark.parametrize(
    ("name", "weights", "published", "a", "b", "least"),
    [
        ("seafusion", "SeAFusion.pth", "VIFB/fused/SeAFusion/fight.jpg", "VIFB/VI/fight.jpg", "VIFB/IR/fight.jpg", 38),
        ("ifcnn", "IFCNN-MAX.pth", "VIFB/fused/IFCNN/fight.jpg", "VIFB/VI/fight.jpg", "VIFB/IR/fight.jpg", 38),
        ("ifcnn", "IFCNN-MAX.pth", "TNO/fused/IFCNN/01.png", "TNO/vi/01.png", "TNO/ir/01.png", 43),
        (
            "ifcnn",
            "IFCNN-MAX.pth",
            "MFIF/fused/IFCNN/MFI-WHU_01_IFCNN.jpg",
            "MFIF/input/MFI-WHU_01/MFI-WHU_01_B.jpg",
            "MFIF/input/MFI-WHU_01/MFI-WHU_01_A.jpg",
            38,
        ),
    ],
)
def test_published_pictures_come_out(name, weights, published, a, b, least):
    """To the accuracy of the JPEG files that the benchmarks publish."""
    root = Path(os.environ["FUSION_REFERENCE_DIR"])
    model = load_model(name, root / "networks" / weights)
    first, second, wanted = (read_image(root / path).pixels for path in (a, b, published))
    assert psnr(model.fuse(first, second).fused[0], wanted.float() / 255) > least
