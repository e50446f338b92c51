"""Hot targets that are lifted to their brightness in the source where they stand out."""

import pytest
import torch

from fusion import load_model
from fusion.models.tcmoa.targets import lifted, standing_out

PARTS = ["model/backbone=pyramid", "model/loss=benchmark", "model.expert.hidden_ratio=0.5"]


def scene(visible=0.2, ground=0.3, hot=0.9, where=(60, 84, 70, 82)):
    """An even visible picture, and an infrared one of an even ground with a target; luma `(1, 2, 128, 160)`."""
    infrared = torch.full((1, 1, 128, 160), ground)
    top, bottom, left, right = where
    infrared[..., top:bottom, left:right] = hot
    return torch.cat([torch.full_like(infrared, visible), infrared], dim=1)


def seen(luma):
    """How much of the second source stands out on 4x4 pixels: at the target's middle, and far from it."""
    network = load_model("tcmoa", overrides=PARTS).network
    pictures = network.backbone.gaussians(luma)
    out = standing_out(pictures[2], pictures[-1], luma.std((-2, -1), keepdim=True))
    assert out.shape == (1, 2, 32, 40) and out.min() >= 0 and out.max() <= 1
    return float(out[0, 1, 18, 19]), float(out[0, 1, 18, 5])


def test_a_hot_target_stands_out():
    target, elsewhere = seen(scene())
    assert target > 0.9 and elsewhere < 0.05


@pytest.mark.parametrize(
    "luma",
    [
        scene(visible=0.95),  # it would vanish before a bright ground
        scene(hot=0.1),  # colder than its surroundings
        scene(hot=0.31),  # hardly warmer
        scene(where=(0, 128, 0, 110)),  # half the picture
        scene(ground=0.9),  # nothing stands out
    ],
)
def test_what_is_no_target(luma):
    assert seen(luma)[0] < 0.1


def test_order_of_the_sources_is_nothing_to_it():
    luma = scene()
    network = load_model("tcmoa", overrides=PARTS).network
    pictures, deviations = network.backbone.gaussians(luma), luma.std((-2, -1), keepdim=True)
    there = standing_out(pictures[1], pictures[-1], deviations)
    back = standing_out(pictures[1].flip(1), pictures[-1].flip(1), deviations.flip(1))
    assert torch.equal(there, back.flip(1))


def test_lifting_goes_its_share_of_the_way_and_never_darkens():
    luma, share = scene(), torch.tensor(0.7)
    network = load_model("tcmoa", overrides=PARTS).network
    pictures, deviations = network.backbone.gaussians(luma), luma.std((-2, -1), keepdim=True)
    for fused in (torch.zeros(1, 1, 32, 40), torch.ones(1, 1, 32, 40)):
        after = lifted(fused, pictures[2], pictures[-1], deviations, share)
        assert (after >= fused).all() and (
            after <= torch.maximum(fused, pictures[2].amax(1, keepdim=True)) + 1e-6
        ).all()
    dark = torch.zeros(1, 1, 32, 40)
    weight = standing_out(pictures[2], pictures[-1], deviations)[0, 1, 18, 19]
    after = lifted(dark, pictures[2], pictures[-1], deviations, share)
    torch.testing.assert_close(after[0, 0, 18, 19], share * weight * pictures[2][0, 1, 18, 19])


@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_a_target_is_brighter_for_it_and_other_tasks_stay(task):
    luma = scene(visible=0.15, ground=0.35, hot=0.6)
    luma[:, 0] += 0.15 * torch.randn(luma[:, 0].shape, generator=torch.Generator().manual_seed(0))  # detail that wins
    a, b = (x.clamp(0, 1).expand(-1, 3, -1, -1) for x in luma.split(1, dim=1))
    with_it, without = (
        load_model("tcmoa", overrides=[*PARTS, *more]).fuse(a, b, task=task).fused
        for more in ([], ["model.backbone.targets=null"])
    )
    assert torch.equal(with_it, without) == (task != "vif")
    if task == "vif":
        assert (with_it - without)[0, :, 66:78, 73:79].mean() > 0.05
        assert (with_it - without).min() > -0.01
