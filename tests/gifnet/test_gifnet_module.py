"""GIFNet as users meet it: tasks, colors, sizes, checkpoints, bands, training."""

from functools import partial

import pytest
import torch

import fusion
from fusion.data.files.image import read_image, write_image
from fusion.errors import ConfigError, DataError, WeightsError
from fusion.layers.color import merge_chroma, split_luma
from fusion.models.gifnet import GIFNet, GIFNetLoss
from fusion.models.gifnet.convert import convert_official
from fusion.models.gifnet.pansharpening import match_histograms, restore_radiometry
from fusion.models.gifnet.source_weights import FixedWeights

TASKS = ("vif", "mef", "mff", "medical", "nir", "pansharpening")


@pytest.fixture
def model(official_state) -> GIFNet:
    built = GIFNet(loss=GIFNetLoss(FixedWeights()))
    built.network.load_state_dict(convert_official(official_state, built.network))
    return built.eval()


@pytest.fixture
def pictures():
    """`a`, `b`: `(2, 3, 30, 41)`, smooth and in color."""
    small = torch.rand(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    return tuple(torch.nn.functional.interpolate(x, (30, 41), mode="bilinear") * 0.4 + 0.3 for x in small)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_fuses(model, pictures, task):
    fused = model.fuse(*pictures, task=task).fused
    assert fused.shape == (2, 3, 30, 41) and fused.isfinite().all()
    luma = fused if task == "pansharpening" else split_luma(fused)[0]
    assert luma.std() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 60), (5, 5), (31, 17)])
def test_any_size_comes_back(model, size):
    a, b = torch.rand(2, 3, *size)
    fused = model.fuse(a, b, task="vif").fused
    assert fused.shape == (1, 3, *size) and fused.isfinite().all()


def test_sources_enter_in_the_order_that_the_weights_know(model, pictures):
    a, b = (x[:, :1].expand(-1, 3, -1, -1) for x in pictures)
    with torch.no_grad():
        ours = model.network(torch.cat([b[:, :1], a[:, :1]], 1))[0]
        turned = model.network(torch.cat([a[:, :1], b[:, :1]], 1))[0]
    for task, expected in (("vif", ours), ("mff", ours), ("mef", turned), ("medical", ours), ("nir", ours)):
        torch.testing.assert_close(model.fuse(a, b, task=task).fused, expected.expand(-1, 3, -1, -1), atol=1e-4, rtol=0)
    assert (ours - turned).abs().max() > 1e-3


def test_chroma_of_the_only_color_picture_is_kept_and_that_of_two_is_merged(model, pictures):
    with torch.no_grad():
        model.network.decoder[6].weight.mul_(0.05)  # luma near the middle, so that nothing is clipped
        model.network.decoder[6].bias.zero_()
    a, b = pictures
    gray = b.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    chroma_a, chroma_b = split_luma(a)[1], split_luma(b)[1]
    for first, second, expected in ((a, gray, chroma_a), (gray, a, chroma_a), (a, b, merge_chroma(chroma_a, chroma_b))):
        fused = model.fuse(first, second, task="vif").fused
        torch.testing.assert_close(split_luma(fused)[1], expected, atol=2e-3, rtol=0)


def test_the_same_picture_twice_is_enhanced_and_keeps_its_chroma(model, pictures):
    a, _ = pictures
    with torch.no_grad():
        model.network.decoder[6].weight.mul_(0.05)
        model.network.decoder[6].bias.zero_()
    torch.testing.assert_close(split_luma(model.fuse(a, a).fused)[1], split_luma(a)[1], atol=2e-3, rtol=0)


def test_main_task_and_gate_steer(model, pictures):
    plain = model.fuse(*pictures).fused
    assert torch.equal(model.fuse(*pictures, main_task="mff", gate_scale=1.0).fused, plain)
    for control in ({"main_task": "vif"}, {"gate_scale": 0.0}):
        assert (model.fuse(*pictures, **control).fused - plain).abs().max() > 1e-4
    with pytest.raises(ConfigError, match="main_task=mef: expected mff or vif"):
        model.fuse(*pictures, main_task="mef")
    with pytest.raises(ConfigError, match="task 'thermal' is not one of vif, mef, mff, medical"):
        model.fuse(*pictures, task="thermal")


def test_large_pictures_go_by_tiles_and_batches_one_by_one(model, pictures):
    whole = model.fuse(*pictures).fused
    model.whole_pixels, model.tile = 30 * 41, 64
    torch.testing.assert_close(model.fuse(*pictures).fused, whole, atol=1e-5, rtol=0)
    a, b = (x.repeat(1, 1, 3, 3) for x in pictures)
    model.whole_pixels = 1 << 30
    whole = model.fuse(a, b).fused
    model.whole_pixels = 1
    torch.testing.assert_close(model.fuse(a, b).fused, whole, atol=2e-5, rtol=0)


def test_official_colors_are_whole_gray_levels(model, pictures):
    model.color = "official"
    a, b = ((x * 255).round() / 255 for x in pictures)
    fused = model.fuse(a, b).fused * 255
    torch.testing.assert_close(fused, fused.round(), atol=1e-3, rtol=0)
    gray = a[:, :1].expand(-1, 3, -1, -1)
    fused = model.fuse(gray, gray).fused
    model.color = "exact"
    exact = model.fuse(gray, gray).fused
    torch.testing.assert_close(fused, (exact * 255).floor() / 255, atol=1.5 / 255, rtol=0)
    assert torch.equal(fused[:, 0], fused[:, 1])


def test_bands_are_fused_one_by_one_and_keep_their_histograms(model):
    bands, pan = torch.rand(1, 4, 24, 32), torch.rand(1, 1, 24, 32)
    sharpened = model.pansharpen(bands, pan)
    assert sharpened.shape == bands.shape
    single = torch.cat([model.pansharpen(band, pan) for band in bands.split(1, dim=1)], 1)
    torch.testing.assert_close(sharpened, single, atol=1e-5, rtol=0)
    raw = model.pansharpen(bands, pan, restore=False)
    torch.testing.assert_close(restore_radiometry(raw, bands), sharpened)
    rgb, gray = bands[:, :3], pan.expand(-1, 3, -1, -1)
    torch.testing.assert_close(model.fuse(gray, rgb, task="pansharpening").fused, sharpened[:, :3], atol=1e-4, rtol=0)
    with pytest.raises(DataError, match="bands are 24x32, the panchromatic image 48x64: enlarge the bands"):
        model.pansharpen(bands, torch.rand(1, 1, 48, 64))


def test_histograms_are_matched():
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(1, 2, 64, 64, generator=generator), torch.rand(1, 2, 64, 64, generator=generator) ** 3
    matched = match_histograms(image, target)
    for quantile in (0.1, 0.5, 0.9):
        ours, wanted = (x.flatten(2).quantile(quantile, dim=-1) for x in (matched, target))
        torch.testing.assert_close(ours, wanted, atol=0.02, rtol=0)
    order = image.flatten().argsort()[:: 4096 // 16]
    assert match_histograms(image[:, :1], target[:, :1]).flatten()[order[order < 4096]].diff().min() >= 0
    torch.testing.assert_close(match_histograms(target, target), target, atol=1.5 / 255, rtol=0)


def test_released_checkpoint_loads_by_name_and_fuses_folders(official_state, pictures, tmp_path):
    torch.save(official_state, tmp_path / "Final.model")
    loaded = fusion.load_model("gifnet", ckpt_path=tmp_path / "Final.model")
    assert isinstance(loaded, GIFNet)
    for side, images in zip("ab", pictures, strict=True):
        write_image(tmp_path / side / "one.png", images[0])
    a, b = (read_image(tmp_path / side / "one.png").pixels for side in "ab")
    fused = loaded.fuse(a, b, task="mff").fused
    again = fusion.load_model("gifnet", overrides=[f"model.weights={tmp_path}/Final.model"])
    assert torch.equal(again.fuse(a, b, task="mff").fused, fused)
    broken = {key: value for key, value in official_state.items() if "cnnDecoder" not in key}
    torch.save(broken, tmp_path / "half.model")
    with pytest.raises(WeightsError, match="not the released GIFNet checkpoint: missing cnnDecoder"):
        fusion.load_model("gifnet", ckpt_path=tmp_path / "half.model")


def test_config_values_are_refused_by_name():
    with pytest.raises(ConfigError, match="model.interaction=both is not one of on, one_way, off"):
        fusion.load_model("gifnet", overrides=["model.interaction=both"])
    with pytest.raises(ConfigError, match="model.tile=8: expected at least 64"):
        fusion.load_model("gifnet", overrides=["model.tile=8"])
    for spelled, meant in (("on", "on"), ("off", "off"), ("false", "off"), ("one_way", "one_way")):
        loaded = fusion.load_model("gifnet", overrides=[f"model.interaction={spelled}", "model/gate=channel"])
        assert loaded.network.interaction == meant


def batch_of(task, pictures):
    a, b = pictures
    return {
        "a": a, "b": b, "task": task, "reference": a, "auxiliary_a": b, "auxiliary_b": a,
        "auxiliary_task": "mff" if task == "vif" else "vif",
    }  # fmt: skip


@pytest.mark.parametrize("task", ["vif", "mff", "mef"])
def test_training_lowers_the_losses_of_each_task(pictures, task):
    torch.manual_seed(0)
    model = GIFNet(loss=GIFNetLoss(FixedWeights())).train()
    batch = batch_of(task, pictures)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for _ in range(8):
        terms = model.losses(model(batch["a"], batch["b"], task, **model.batch_controls(batch)), batch)
        loss = sum(terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


def test_the_auxiliary_pair_reaches_the_loss_and_only_in_training(model, pictures):
    batch = batch_of("vif", pictures)
    model.train()
    controls = model.batch_controls(batch)
    with_it, without = (model(*pictures, "vif", **c).extras["luma"] for c in (controls, {}))
    assert not torch.equal(with_it, without)
    model.eval()
    assert model.batch_controls(batch) == {}


def test_supervised_tasks_need_their_ground_truth(model, pictures):
    model.train()
    batch = {key: value for key, value in batch_of("mff", pictures).items() if key != "reference"}
    with pytest.raises(DataError, match="training on 'mff' needs a `reference`"):
        model.losses(model(*pictures, "mff"), batch)
    assert model.losses(model(*pictures, "vif"), batch | {"task": "vif"})  # the visible image is its own


def test_resting_branch_keeps_no_gradient_or_one_of_zero(pictures):
    for none in (True, False):
        model = GIFNet(loss=GIFNetLoss(FixedWeights()), zero_grad_none=none).train()
        optimizer = torch.optim.Adam(model.parameters())
        sum(model.losses(model(*pictures, "vif"), batch_of("vif", pictures)).values()).backward()
        model.optimizer_zero_grad(0, 0, optimizer)
        weight = model.network.branches["mm"].embed.weight
        assert (weight.grad is None) if none else not weight.grad.any()


def test_feature_maps_are_given_for_either_main_branch(model, pictures):
    for main_task, names in (("mff", ["shared encoder", "mm branch", "dp branch"]), ("vif", None)):
        maps = model.feature_maps(*pictures, "vif", main_task)
        assert list(maps) == (names or ["shared encoder", "dp branch", "mm branch"])
        assert all(part.shape[:2] == (2, 98) and part.std() > 0 for part in maps.values())
        assert maps["shared encoder"].shape[-2:] == (30, 41)
    model.network.interaction = "off"
    assert list(model.feature_maps(*pictures)) == ["shared encoder", "dp branch"]


def test_autocast_chooses_the_type(model, pictures):
    exact = model.fuse(*pictures).fused
    with torch.autocast("cpu", torch.bfloat16):
        half = model.fuse(*pictures).fused
    assert half.dtype == torch.float32 and 0 < (half - exact).abs().mean() < 0.02
    model.precision = "bfloat16"
    assert torch.equal(model.fuse(*pictures).fused, half)


def test_gradients_of_use_are_those_of_the_picture_in_use(model, pictures):
    a, b = (x.clone().requires_grad_() for x in pictures)
    fused = model(a, b, "vif").fused
    torch.testing.assert_close(fused, model.fuse(*pictures, task="vif").fused, atol=1e-4, rtol=0)
    fused.mean().backward()
    assert a.grad.abs().sum() > 0 and b.grad.abs().sum() > 0


def test_precision_is_chosen_by_the_configuration():
    assert fusion.load_model("gifnet", overrides=["model.precision=bfloat16"]).precision == "bfloat16"
    with pytest.raises(ConfigError, match="model.precision=half is not one of float32, bfloat16"):
        fusion.load_model("gifnet", overrides=["model.precision=half"])


def test_partial_gate_and_loss_come_from_the_configuration():
    loaded = fusion.load_model("gifnet", overrides=["model.gate.init=0.3", "model/loss/weighting=fixed"])
    assert isinstance(loaded.loss.weighting, FixedWeights)
    values = [branch.gate.factor().item() for branch in loaded.network.branches.values()]
    assert values == pytest.approx([0.3, 0.3])
    assert partial(GIFNet, interaction=True)().network.interaction == "on"
