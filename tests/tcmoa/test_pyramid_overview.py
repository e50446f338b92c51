"""Settings of a pyramid's sites that follow the pair as a whole."""

import pytest
import torch

from fusion import load_model
from fusion.models.tcmoa.overview import FEATURES, MOST, Setting, curve, look_at

PARTS = ["model/backbone=pyramid", "model/loss=benchmark", "model.expert.hidden_ratio=0.5"]
VIF = 0


def pair(seed=0, size=(96, 128)):
    generator = torch.Generator().manual_seed(seed)
    small = [torch.rand(1, 3, size[0] // 8, size[1] // 8, generator=generator) for _ in "ab"]
    return tuple(torch.nn.functional.interpolate(x, size, mode="bilinear") for x in small)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return load_model(
        "tcmoa", overrides=[*PARTS, "model.backbone.targets=null"]
    )  # which changes more where it is darker


def follow(model, level, row, value, feature="one"):
    """Let one setting of `vif` follow one feature."""
    site = model.network.sites[str(level)]
    site.overview.data[VIF, site.follows.index(row), FEATURES.index(feature)] = value


def test_what_is_seen_of_a_pair():
    even = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    view = look_at(torch.cat([even, 1 - even], dim=1))[0]
    seen = dict(zip(FEATURES, view.tolist(), strict=True))
    assert seen["one"] == 1 and seen["correlation"] == -MOST  # -1 is further off than that
    assert seen["mean_a"] == pytest.approx((0.5 - 0.45) / 0.15, abs=1e-4)
    deviation = float(even.std())
    assert seen["contrast_a"] == pytest.approx(torch.tensor(deviation / 0.2).log().item(), abs=0.02)
    assert seen["detail_a"] == -MOST  # a ramp has none


def test_every_pair_of_a_batch_is_seen_by_itself():
    pairs = [torch.cat([x.mean(1, keepdim=True) for x in pair(seed)], dim=1) for seed in (0, 1)]
    torch.testing.assert_close(look_at(torch.cat(pairs)), torch.cat([look_at(x) for x in pairs]))


def test_of_three_sources_it_sees_the_mean_over_pairs():
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    pairs = [look_at(x[:, list(chosen)]) for chosen in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(look_at(x), torch.stack(pairs).mean(0))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_pictures_are_finite(value):
    assert look_at(torch.full((1, 2, 20, 20), value)).isfinite().all()


def test_at_first_nothing_follows(model):
    plain = load_model("tcmoa", overrides=[*PARTS, "model.backbone.targets=null", "model.backbone.overview=false"])
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing.missing_keys == [] and all("overview" in key for key in missing.unexpected_keys)
    assert torch.equal(plain.fuse(*pair(), task="vif").fused, model.fuse(*pair(), task="vif").fused)


def test_the_offset_brightens_by_its_bound(model):
    a, b = (0.3 + 0.4 * x for x in pair())  # nothing is clipped
    before = model.network(a, b, VIF).fused
    follow(model, 5, "offset", 0.2)
    after = model.network(a, b, VIF).fused
    bound = model.network.backbone.offset_bound
    torch.testing.assert_close(after - before, torch.full_like(before, 0.2 * bound), atol=1e-5, rtol=0)


def test_gain_and_hardness_of_a_band_follow(model):
    before = model.fuse(*pair(), task="vif")
    follow(model, 0, "hardness", -0.2)
    softer = model.fuse(*pair(), task="vif")
    share = (0.58 - 0.2) / 0.58
    torch.testing.assert_close(softer.prompts[-1] - 0.5, share * (before.prompts[-1] - 0.5), atol=1e-5, rtol=0)
    follow(model, 0, "gain", -0.5)
    assert (model.fuse(*pair(), task="vif").fused - softer.fused).abs().max() > 1e-3


def test_the_common_share_stays_within_its_range(model):
    follow(model, 5, "common", 9.0)
    one = model.fuse(*pair(), task="vif").prompts[0]
    torch.testing.assert_close(one.std((-2, -1)), torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_a_setting_follows_its_feature_and_its_task(model):
    a, b = pair()
    before = {task: model.fuse(a, b, task=task).fused for task in ("vif", "mef")}
    follow(model, 5, "offset", 0.3, feature="mean_a")
    bright = (
        model.fuse(a * 0.5 + 0.5, b, task="vif").fused.mean()
        - load_model("tcmoa", overrides=PARTS).fuse(a * 0.5 + 0.5, b, task="vif").fused.mean()
    )
    assert float(bright) == pytest.approx(0.3 * MOST * 0.15, abs=0.02)  # so bright a picture counts as the most
    assert torch.equal(model.fuse(a, b, task="mef").fused, before["mef"])


def test_the_curve_keeps_black_and_white_and_bends_between():
    tones = torch.linspace(0, 1, 101).view(1, 1, 1, -1)
    bent = curve(tones, Setting(lift=0.05, bend=-0.02))
    torch.testing.assert_close(bent[..., [0, -1]], tones[..., [0, -1]], atol=1e-6, rtol=0)
    assert float(bent[..., 50]) == pytest.approx(0.55, abs=1e-6)
    assert bool((bent.diff() > 0).all())


def test_the_curve_acts_on_the_picture(model):
    before = model.fuse(*pair(), task="vif").fused
    follow(model, 3, "lift", 0.05)
    lifted = model.fuse(*pair(), task="vif").fused - before
    assert 0.02 < float(lifted.mean()) < 0.06
