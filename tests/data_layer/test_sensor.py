"""Sources as other cameras would have taken them."""

import pytest
import torch

from fusion.data.transforms.pair import train_transform
from fusion.errors import ConfigError


def sample(level: int = 128) -> dict:
    colors = torch.tensor([level, level // 2, level // 4], dtype=torch.uint8).view(3, 1, 1).expand(3, 64, 64)
    return {"a": colors.clone(), "b": colors.clone(), "mask": torch.ones(64, 64, dtype=torch.int64)}


def sensor(**settings) -> dict:
    return {"share": 1.0, "noise": 0.0, "contrast": (1.0, 1.0), "gray": 0.0, **settings}


def apply(seed: int = 0, **settings) -> dict:
    return train_transform(None, hflip=0, sensor=sensor(**settings))(sample(), seed)


def test_sources_get_noise_of_their_own_and_labels_none():
    changed = apply(noise=0.05)
    noises = [(changed[key].float() - sample()[key]).mean(0) for key in "ab"]
    assert all(0.1 < noise.std() <= 13 for noise in noises)  # up to 0.05 of 255
    assert torch.corrcoef(torch.stack([n.flatten() for n in noises]))[0, 1].abs() < 0.1
    assert torch.equal(changed["mask"], sample()["mask"]) and changed["a"].dtype == torch.uint8


def test_coarse_grain_makes_neighbours_alike():
    def likeness(grain):
        noise = apply(noise=0.2, grain=(grain, grain))["a"][0].float()
        return torch.corrcoef(torch.stack([noise[:, :-1].flatten(), noise[:, 1:].flatten()]))[0, 1]

    assert likeness(1) < 0.1 < 0.5 < likeness(3)


def test_color_goes_and_contrast_changes_where_asked():
    gray = apply(gray=1.0)["a"]
    assert torch.equal(gray[0], gray[1]) and not torch.equal(sample()["a"][0], sample()["a"][1])
    textured = {**sample(), "a": torch.randint(64, 192, (3, 64, 64), dtype=torch.uint8)}
    weaker = train_transform(None, hflip=0, sensor=sensor(contrast=(0.5, 0.5)))(textured, 0)
    assert weaker["a"].float().std().item() == pytest.approx(textured["a"].float().std().item() / 2, rel=0.05)


def test_cameras_are_misaligned_by_at_most_the_shift():
    ramp = torch.arange(64, dtype=torch.uint8).mul(3).add(50).expand(3, 64, 64).contiguous()
    pairs = [
        train_transform(None, hflip=0, sensor=sensor(shift=2.0))({"a": ramp, "b": ramp, "mask": ramp[0].long()}, seed)
        for seed in range(10)
    ]
    moved = [((pair[key].float() - ramp)[0, 8:-8, 8:-8] / 3).mean().item() for pair in pairs for key in "ab"]
    assert max(map(abs, moved)) <= 2.05 and max(moved) > 0.5 and min(moved) < -0.5
    assert all(torch.equal(pair["mask"], ramp[0].long()) and int(pair["a"].min()) >= 50 for pair in pairs)


def test_jpeg_leaves_its_traces():
    textured = {**sample(), "a": torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)}

    def error(quality):
        made = train_transform(None, hflip=0, sensor=sensor(jpeg=(quality, quality)))(textured, 0)["a"]
        assert made.dtype == torch.uint8
        return (made.float() - textured["a"]).square().mean()

    assert 0 < error(95) < error(30)


@pytest.mark.parametrize("settings", [{"shift": 9}, {"shift": -1}, {"jpeg": [0, 50]}, {"jpeg": [90, 50]}])
def test_impossible_shifts_and_qualities(settings):
    with pytest.raises(ConfigError, match=f"data.sensor: {next(iter(settings))}="):
        apply(**settings)


def test_the_seed_decides_and_a_share_stays_as_it_was():
    assert torch.equal(apply(3, noise=0.1)["a"], apply(3, noise=0.1)["a"])
    assert not torch.equal(apply(3, noise=0.1)["a"], apply(4, noise=0.1)["a"])
    untouched = [torch.equal(apply(seed, share=0.5, noise=0.1)["a"], sample()["a"]) for seed in range(40)]
    assert 8 < sum(untouched) < 32


def test_sources_change_places_as_often_as_asked():
    pair = {"a": torch.zeros(3, 8, 8, dtype=torch.uint8), "b": torch.ones(3, 8, 8, dtype=torch.uint8)}
    transform = train_transform(None, hflip=0, swap=0.25)
    swapped = [bool(transform(pair, seed)["a"].any()) for seed in range(200)]
    assert 25 < sum(swapped) < 75
    assert all(transform(pair, seed)["a"].any() != transform(pair, seed)["b"].any() for seed in range(20))
    with pytest.raises(ConfigError, match="swap=2"):
        train_transform(None, swap=2.0)


@pytest.mark.parametrize("wrong", [{"noise": -0.1}, {"share": 2.0}, {"grain": (0.5, 1.0)}, {"contrast": (1.2, 0.8)}])
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        apply(**wrong)
