"""MoE-Fusion's shipped weights: small, the same pictures for the same pair, edges of both sources, and boxes that matter."""

import pytest
import torch

from fusion import load_model
from fusion.data import SampleData
from fusion.data.files.image import read_image
from fusion.hub import SHIPPED, locate
from fusion.metrics import score

GOLDEN = (0.52447, 0.17561, 0.80016, 0.50742, 0.68346, 0.61371)
"""Mean, standard deviation and four pixels of the green channel of what `fixed_pair` becomes."""
BOX = [torch.tensor([[40.0, 20.0, 100.0, 80.0]])]


def fixed_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth colour pictures made of waves, 96x130."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 130), indexing="ij")
    a = torch.stack([0.5 + 0.4 * torch.sin(9 * x + k) * torch.cos(7 * y) + 0.05 * torch.sin(90 * x) for k in range(3)])
    b = torch.stack([0.5 + 0.3 * torch.cos(5 * x * y + k) + 0.1 * torch.sin(60 * y) for k in range(3)])
    return a.clamp(0, 1), b.clamp(0, 1)


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


def test_a_box_changes_what_is_inside_of_it(model):
    a, b = fixed_pair()
    plain, boxed = (model.fuse(a, b, boxes=boxes).fused[0].mean(0) for boxes in (None, BOX))
    change = (boxed - plain).abs()
    inside, far = change[20:80, 40:100].mean(), change[:, :24].mean()
    assert inside > 0.001 and inside > 3 * far


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (64, 97)])
def test_hostile_pictures_come_back_finite(model, size):
    for a, b in ((torch.zeros(3, *size), torch.ones(3, *size)), (torch.rand(3, *size), torch.rand(3, *size))):
        fused = model.fuse(a, b).fused
        assert fused.shape[-2:] == size and fused.isfinite().all()
