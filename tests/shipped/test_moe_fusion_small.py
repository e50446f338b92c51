"""MoE-Fusion's shipped weights: small, the same pictures for the same pair, edges of both sources, and boxes that matter."""

import pytest
import torch

from fusion import load_model
from fusion.data import SampleData
from fusion.data.files.image import read_image
from fusion.hub import SHIPPED, locate
from fusion.metrics import score

from .test_tcmoa_pyramid import fixed_pair

GOLDEN = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Mean, standard deviation and four pixels of the green channel of what `fixed_pair` becomes."""
BOX = [torch.tensor([[40.0, 20.0, 100.0, 80.0]])]


@pytest.fixture(scope="module")
def model():
    return load_model("moe_fusion_small")


def test_it_is_shipped_and_small():
    file = SHIPPED / "moe_fusion_small.safetensors"
    assert locate("moe_fusion_small") == file and file.stat().st_size < 2e6


def test_fixed_values(model):
    fused = model.fuse(*fixed_pair()).fused[0, 1]
    found = (fused.mean(), fused.std(), fused[10, 10], fused[48, 65], fused[80, 20], fused[95, 129])
    torch.testing.assert_close(torch.stack(found), torch.tensor(GOLDEN), atol=2e-4, rtol=0)


def test_it_keeps_more_edges_than_the_average(model, tmp_path):
    SampleData(tmp_path, train_pairs=1, test_pairs=2, height=224, width=288).prepare()
    for infrared in sorted((tmp_path / "LLVIP" / "infrared" / "test").iterdir()):
        visible = tmp_path / "LLVIP" / "visible" / "test" / infrared.name
        a, b = (read_image(path).pixels.float() / 255 for path in (visible, infrared))
        fused = score(a, b, model.fuse(a, b).fused[0], metrics=["qabf", "ag"])
        average = score(a, b, (a + b) / 2, metrics=["qabf", "ag"])
        assert fused["qabf"] > average["qabf"] + 0.05 and fused["ag"] > 1.2 * average["ag"]


def test_inside_of_a_box_the_brighter_source_is_nearer(model):
    a, b = fixed_pair()
    luma_a, luma_b = (image.mean(0) for image in (a, b))
    brighter = torch.maximum(luma_a, luma_b)
    plain, boxed = (model.fuse(a, b, boxes=boxes).fused[0].mean(0) for boxes in (None, BOX))
    inside = (slice(20, 80), slice(40, 100))
    assert (boxed - brighter)[inside].abs().mean() < (plain - brighter)[inside].abs().mean()


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (64, 97)])
def test_hostile_pictures_come_back_finite(model, size):
    for a, b in ((torch.zeros(3, *size), torch.ones(3, *size)), (torch.rand(3, *size), torch.rand(3, *size))):
        fused = model.fuse(a, b).fused
        assert fused.shape[-2:] == size and fused.isfinite().all()
