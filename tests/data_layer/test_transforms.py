"""Both images are cut alike, and the seed alone decides how."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from fusion.data import PairTransform, eval_transform, train_transform
from fusion.data.dataset import Sample
from fusion.data.transforms.crops import RandomZoomCrop
from fusion.data.transforms.mosaic import mosaic
from fusion.data.transforms.pair import RandomQuarterTurn
from fusion.errors import ConfigError

from .conftest import picture


def sample(height: int = 60, width: int = 80) -> Sample:
    """`b` and `reference` are functions of `a`'s pixels, so that they show where they were cut."""
    a = torch.from_numpy(picture(3, height, width).copy()).permute(2, 0, 1).contiguous()
    common = {"task": "vif", "name": "x", "a_is_gray": False, "b_is_gray": False}
    return {"a": a, "b": 255 - a, "reference": a.clone(), "mask": (a[0] > 127).long(), **common}


@pytest.mark.parametrize("options", [{}, {"vflip": 0.5, "rot90": True}, {"zoom": (0.5, 2.0)}])
@pytest.mark.parametrize("seed", range(6))
def test_all_images_are_cut_alike(options: dict, seed: int) -> None:
    out = train_transform(32, (0.2, 1.0), **options)(sample(), seed)
    assert out["a"].shape == out["b"].shape == (3, 32, 32)
    assert out["a"].dtype == out["b"].dtype == torch.uint8
    assert torch.equal(out["a"], out["reference"])
    assert (out["a"].int() + out["b"].int() - 255).abs().max() <= 2  # resampling rounds twice
    agreement = ((out["a"][0] > 127).long() == out["mask"]).float().mean()
    assert agreement > 0.9  # masks are resampled by nearest neighbour
    assert type(out["a"]) is torch.Tensor and type(out["mask"]) is torch.Tensor


def test_the_seed_decides_and_nothing_else() -> None:
    transform = train_transform(32, (0.2, 1.0), vflip=0.5, rot90=True)
    torch.manual_seed(1)
    first = transform(sample(), 7)["a"]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(transform(sample(), 7)["a"], first)
    assert torch.equal(torch.get_rng_state(), before)
    others = {transform(sample(), seed)["a"].numpy().tobytes() for seed in range(20)}
    assert len(others) == 20


def test_the_input_stays_as_it_was() -> None:
    original = sample()
    copy = original["a"].clone()
    train_transform(16)(original, 0)
    assert torch.equal(original["a"], copy)
    assert original["a"].shape == (3, 60, 80)


def test_whole_area_without_flip_is_a_resize_up_or_down() -> None:
    original = sample(40, 40)
    for size in (20, 100):
        out = train_transform(size, (1.0, 1.0), (1.0, 1.0), hflip=0)(original, 0)["a"]
        expected = F.resize(original["a"], [size, size], F.InterpolationMode.BICUBIC, antialias=True)
        assert torch.equal(out, expected)


def test_area_stays_within_the_scale() -> None:
    # A picture whose red counts columns and whose green counts rows tells which part was cut.
    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    grid = torch.stack([columns, rows, rows]).to(torch.uint8)
    transform = train_transform(64, (0.64, 0.81), (0.9, 1.1), hflip=0)
    for seed in range(20):
        out = transform({**sample(), "a": grid, "b": grid, "reference": grid, "mask": grid[0].long()}, seed)[
            "a"
        ].float()
        width, height = (float(out[i].max() - out[i].min()) + 64 / 45 for i in (0, 1))
        assert 0.6 < width * height / 200**2 < 0.85


def test_flips_and_turns_reach_all_eight_positions() -> None:
    original = sample(32, 32)
    transform = train_transform(32, (1.0, 1.0), (1.0, 1.0), hflip=0.5, vflip=0.5, rot90=True)
    seen = {transform(original, seed)["a"].numpy().tobytes() for seed in range(100)}
    quarter_turns = [
        torch.rot90(image, k, (1, 2)) for image in (original["a"], original["a"].flip(2)) for k in range(4)
    ]
    assert seen == {image.contiguous().numpy().tobytes() for image in quarter_turns}


def test_boxes_follow_and_boxes_outside_go() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 40.0], [70.0, 50.0, 78.0, 58.0]])
    given = {**sample(), "boxes": boxes, "labels": torch.tensor([1, 2])}
    flipped = train_transform((60, 80), (1.0, 1.0), (4 / 3, 4 / 3), hflip=1.0)(given, 0)
    assert torch.equal(flipped["boxes"], torch.tensor([[50.0, 10.0, 70.0, 40.0], [2.0, 50.0, 10.0, 58.0]]))
    cut = eval_transform(center_crop=40)(given)  # type: ignore[misc]
    assert torch.equal(cut["boxes"], torch.tensor([[0.0, 0.0, 10.0, 30.0]]))
    assert cut["labels"].tolist() == [1]


def test_evaluation_is_untouched_by_default_and_cuts_as_asked() -> None:
    assert eval_transform() is None
    original = sample(60, 80)
    cut = eval_transform(center_crop=(100, 32))(original)["a"]  # type: ignore[misc]
    assert torch.equal(cut, original["a"][:, :, 24:56])
    assert eval_transform(multiple=16)(original)["a"].shape == (3, 48, 80)  # type: ignore[misc]
    assert eval_transform(multiple=64)(original)["a"].shape == (3, 60, 64)  # type: ignore[misc]
    assert eval_transform(resize=30)(original)["a"].shape == (3, 30, 40)  # type: ignore[misc]
    assert eval_transform(resize=(30, 30))(original)["b"].shape == (3, 30, 30)  # type: ignore[misc]


def test_zoom_keeps_the_scale_of_detail() -> None:
    crop = PairTransform(RandomZoomCrop((16, 16), (2.0, 2.0)))
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(120), indexing="ij")
    grid = torch.stack([columns, rows, rows]).to(torch.uint8)
    out = crop({**sample(), "a": grid, "b": grid, "reference": grid, "mask": grid[0].long()}, 1)["a"].float()
    assert float(out[0, 0, -2] - out[0, 0, 1]) == pytest.approx(2 * 13, abs=1.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.9, 0.5)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"hflip": 1.5}, "hflip=1.5"),
        ({"crop_size": 0}, "crop size 0"),
        ({"crop_size": (3, 4, 5)}, "crop size"),
        ({"crop_size": (30, 40), "rot90": True}, "rot90=true needs a square crop, but crop_size is 30x40"),
        ({"zoom": (2.0, 1.0)}, "zoom"),
    ],
)
def test_impossible_values_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_transform(**options)


def test_quarter_turns_are_exact() -> None:
    image = sample(20, 20)["a"]
    turned = [PairTransform(RandomQuarterTurn())({**sample(20, 20), "a": image}, seed)["a"] for seed in range(20)]
    exact = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    assert all(any(torch.equal(one, other) for other in exact) for one in turned)


COLORS = torch.tensor([[200, 10, 10], [10, 200, 10], [10, 10, 200], [200, 200, 10]])[..., None, None]


def _pair(side: tuple[int, int], box: tuple[int, int, int, int], label: int) -> dict:
    a = torch.full((3, *side), 10, dtype=torch.uint8)
    a[:, box[1] : box[3], box[0] : box[2]] = COLORS[label]
    boxes = torch.tensor([box]).float()
    return {"a": a, "b": a.clone(), "boxes": boxes, "labels": torch.tensor([label]), "name": str(label), "task": "vif"}


def test_boxes_of_a_mosaic_lie_on_what_they_show() -> None:
    samples = [_pair((48, 64), (20, 14, 44, 34), i) for i in range(4)]
    seen: set[int] = set()
    gray = 0
    for seed in range(20):
        out = mosaic(samples, 96, torch.Generator().manual_seed(seed))
        assert out["a"].shape == (3, 96, 96) and torch.equal(out["a"], out["b"]) and out["name"] == "0"
        assert len(out["boxes"]) == len(out["labels"])
        gray += bool((out["a"] == 114).any())
        for box, label in zip(out["boxes"], out["labels"].tolist(), strict=True):
            seen.add(label)
            mine = (out["a"].float() - COLORS[label]).abs().amax(0) < 90
            rows, columns = mine.nonzero().T
            found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            assert (found - box).abs().max() <= 2.5, (seed, label, found, box)
        again = mosaic(samples, 96, torch.Generator().manual_seed(seed))
        assert torch.equal(out["a"], again["a"]) and torch.equal(out["boxes"], again["boxes"])
    assert seen == {0, 1, 2, 3} and gray > 5


def test_a_mosaic_takes_pairs_of_other_sizes_and_without_boxes() -> None:
    empty = _pair((30, 20), (2, 2, 8, 8), 1)
    empty |= {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    out = mosaic([empty] * 4, 32, torch.Generator().manual_seed(0))
    assert out["a"].shape == (3, 32, 32) and out["boxes"].shape == (0, 4) and out["labels"].shape == (0,)
