"""Pairs made from photographs: what is sharp where, which draws belong to what, and quadruples for GIFNet."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from fusion.data import (
    LLVIP,
    MFIWHU,
    SCIE,
    DepthFolder,
    DepthPlane,
    ExposureSynthesis,
    FocusQuadruples,
    FocusSynthesis,
    FusionDataModule,
    Images,
    ImaginedDepth,
    RealMFF,
    SampleKey,
    SyntheticPairs,
    WithAuxiliary,
    export,
    read_image,
    train_transform,
)
from fusion.errors import ConfigError, DataError

from .conftest import Writer


@pytest.fixture
def photos(tmp_path: Path, write: Writer) -> Images:
    for i in range(3):
        write(tmp_path / f"photos/{i}.png", i, height=64, width=96)
    return Images(tmp_path / "photos")


def test_near_and_far_together_are_the_photograph(photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis())
    assert made.task == "mff" and made.name == "Images-mff" and len(made) == 3
    sample = made.load(1)
    clean = photos.load(1)["a"]
    assert torch.equal(sample["reference"], clean)
    blurred = F.gaussian_blur(clean, [21, 21], [5.0, 5.0])
    near = (sample["b"] == clean).all(0) & (sample["a"] == blurred).all(0)
    far = (sample["a"] == clean).all(0) & (sample["b"] == blurred).all(0)
    assert bool((near | far).all())
    # The plane comes closer downwards: below some row all is near.
    edge = int((~near.all(1)).sum())
    assert 0.05 * 64 - 1 <= 64 - edge <= 0.95 * 64 + 1
    assert bool(near[edge:].all()) and bool(far[:edge].all())


def test_thresholds_belong_to_the_image_or_to_the_sample(photos: Images) -> None:
    def edges(dataset: SyntheticPairs) -> list[int]:
        pairs = [dataset.draw(1, seed) for seed in range(12)]
        return [int((pair["a"] != pair["reference"]).any(0).any(1).sum()) for pair in pairs]

    assert len(set(edges(SyntheticPairs(photos, FocusSynthesis())))) == 1
    assert len(set(edges(SyntheticPairs(photos, FocusSynthesis(), draws="sample")))) > 3
    assert edges(SyntheticPairs(photos, FocusSynthesis(), draws="sample")) == edges(
        SyntheticPairs(photos, FocusSynthesis(), draws="sample")
    )
    by_seed = {tuple(edges(SyntheticPairs(photos, FocusSynthesis(), seed=seed))) for seed in range(8)}
    assert len(by_seed) > 2


def test_crops_are_those_of_the_source(photos: Images) -> None:
    transform = train_transform(32, zoom=(1.0, 1.0), hflip=0.5)
    made = SyntheticPairs(photos, FocusSynthesis(kernel_size=5, sigma=1.0))
    for seed in range(5):
        sample, plain = made.draw(2, seed, transform), photos.draw(2, seed, transform)
        assert torch.equal(sample["reference"], plain["a"])
        sharp = (sample["a"] == plain["a"]).all(0) | (sample["b"] == plain["a"]).all(0)
        assert bool(sharp.all()) and "near" not in sample


def test_crops_agree_with_the_whole_but_for_their_edge(photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis(kernel_size=9, sigma=2.0))
    whole, crop = made.load(0), made.draw(0, 3, train_transform(40, zoom=(1.0, 1.0), hflip=0))
    places = [
        (y, x)
        for y in range(64 - 40 + 1)
        for x in range(96 - 40 + 1)
        if torch.equal(whole["reference"][:, y : y + 40, x : x + 40], crop["reference"])
    ]
    ((y, x),) = places
    for key in ("a", "b"):
        inner = whole[key][:, y + 4 : y + 36, x + 4 : x + 36]
        assert torch.equal(crop[key][:, 4:36, 4:36], inner)


def test_blur_is_drawn_from_its_range(photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis(sigma=(0.5, 4.0)), draws="sample")
    detail = [made.draw(1, seed)["a"].float().diff(dim=-1).abs().mean().item() for seed in range(8)]
    assert len(set(detail)) == 8
    drawn = [
        FocusSynthesis(sigma=(0.5, 4.0)).plan(torch.zeros(3, 32, 32), Path("x"), torch.Generator().manual_seed(s))[
            "sigma"
        ]
        for s in range(50)
    ]
    assert 0.5 <= min(drawn) < 1.2 and 3.3 < max(drawn) <= 4.0


@pytest.mark.parametrize("main", ["source", "synthetic"])
def test_pairs_are_made_before_they_change_places(data_dir: Path, main: str) -> None:
    made = quadruples(data_dir, main)
    kept = [made.draw(1, seed, train_transform(32, zoom=(1.0, 1.0))) for seed in range(8)]
    drawn = [made.draw(1, seed, train_transform(32, zoom=(1.0, 1.0), swap=0.5)) for seed in range(8)]
    swapped = 0
    for plain, sample in zip(kept, drawn, strict=True):
        assert torch.equal(plain["reference"], sample["reference"])
        exchanged = {"a": "b", "b": "a", "auxiliary_a": "auxiliary_b", "auxiliary_b": "auxiliary_a"}
        same = all(torch.equal(plain[key], sample[key]) for key in exchanged)
        assert same or all(torch.equal(plain[key], sample[other]) for key, other in exchanged.items())
        swapped += not same
    assert 0 < swapped < 8


def test_exposures(photos: Images) -> None:
    made = SyntheticPairs(photos, ExposureSynthesis(stops=(1.0, 2.0)))
    sample = made.load(0)
    clean = photos.load(0)["a"]
    assert made.task == "mef" and torch.equal(sample["reference"], clean)
    assert bool((sample["a"] >= clean).all()) and bool((sample["b"] <= clean).all())
    assert float(sample["a"].float().mean()) > float(clean.float().mean()) + 10
    middle = torch.full((3, 1, 1), 128, dtype=torch.uint8)
    over, under = ExposureSynthesis().make(middle, {"stops": (1.0, -1.0)}, torch.Generator())
    assert (int(over[0]), int(under[0])) == (176, 92)  # IEC 61966-2-1: twice and half the light of 128
    noisy = ExposureSynthesis(noise=0.05)
    first = noisy.make(clean, {"stops": (1.0, -1.0)}, torch.Generator().manual_seed(1))
    assert not torch.equal(first[0], noisy.make(clean, {"stops": (1.0, -1.0)}, torch.Generator().manual_seed(2))[0])


def quadruples(root: Path, main: str, **options: object) -> SyntheticPairs:
    return SyntheticPairs(LLVIP(root / "LLVIP"), FocusSynthesis(), main=main, auxiliary=True, **options)  # type: ignore[arg-type]


def test_quadruples_show_one_scene(data_dir: Path) -> None:
    source, made = quadruples(data_dir, "source"), quadruples(data_dir, "synthetic")
    first, second = source.load(3), made.load(3)
    plain = LLVIP(data_dir / "LLVIP").load(3)
    assert (first["task"], first["auxiliary_task"], first["dataset"]) == ("vif", "mff", "LLVIP")
    assert (second["task"], second["auxiliary_task"]) == ("mff", "vif")
    assert torch.equal(first["a"], plain["a"]) and torch.equal(first["b"], plain["b"])
    assert torch.equal(first["reference"], plain["a"]) and torch.equal(second["reference"], plain["a"])
    assert torch.equal(first["auxiliary_a"], second["a"]) and torch.equal(first["auxiliary_b"], second["b"])
    assert torch.equal(second["auxiliary_a"], plain["a"]) and torch.equal(second["auxiliary_b"], plain["b"])
    assert (first["b_is_gray"], second["b_is_gray"]) == (True, False)


def test_rounds_show_the_same_crops(data_dir: Path) -> None:
    data = FusionDataModule(
        train={"vif": quadruples(data_dir, "source"), "mff": quadruples(data_dir, "synthetic")},
        batch_size=2, crop_size=12, zoom=(1.0, 1.0), num_workers=0, same_scenes=True, rounds_per_epoch=5,
    )  # fmt: skip
    data.setup("fit")
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert [batch["task"] for batch in batches] == ["vif", "mff"] * 5
    for vif, mff in zip(batches[::2], batches[1::2], strict=True):
        assert vif["name"] == mff["name"]
        assert torch.equal(vif["a"], mff["reference"]) and torch.equal(vif["auxiliary_b"], mff["b"])
        assert vif["auxiliary_a"].dtype == torch.float32 and float(vif["auxiliary_a"].max()) <= 1
        assert (vif["auxiliary_task"], mff["auxiliary_task"]) == ("mff", "vif")
    assert len({batch["name"][0] for batch in batches}) > 2


def test_same_scenes_need_equal_sets(data_dir: Path) -> None:
    data = FusionDataModule(
        train={"vif": LLVIP(data_dir / "LLVIP"), "mff": MFIWHU(data_dir / "MFI-WHU")},
        crop_size=12, num_workers=0, same_scenes=True,
    )  # fmt: skip
    data.setup("fit")
    with pytest.raises(
        ConfigError, match="same_scenes=true needs as many pairs of every task, but there are vif 7, mff 4"
    ):
        data.train_dataloader()


def test_auxiliary_pairs_of_another_set(data_dir: Path) -> None:
    llvip, mff = LLVIP(data_dir / "LLVIP"), RealMFF(data_dir / "RealMFF")
    joined = WithAuxiliary(llvip, mff, reference="a")
    assert (joined.task, joined.name, len(joined)) == ("vif", "LLVIP", 7)
    crop = train_transform(12)
    samples = [joined.draw(1, seed, crop) for seed in range(20)]
    assert all(torch.equal(s["a"], s["reference"]) and s["auxiliary_task"] == "mff" for s in samples)
    assert all(s["auxiliary_a"].shape == (3, 12, 12) for s in samples)
    assert len({s["auxiliary_a"].numpy().tobytes() for s in samples}) == 20
    assert "auxiliary_a" not in joined.load(1)  # whole images of two sets have two sizes
    with_truth = WithAuxiliary(mff, llvip).draw(0, 1, crop)
    assert torch.equal(with_truth["reference"], mff.draw(0, 1, crop)["reference"])
    with pytest.raises(ConfigError, match="RealMFF and MFIWHU both have the task 'mff'"):
        WithAuxiliary(mff, MFIWHU(data_dir / "MFI-WHU"))


def test_depth_maps_decide_what_is_near(tmp_path: Path, photos: Images) -> None:
    for i in range(3):
        left = torch.zeros(32, 48, dtype=torch.uint8)  # half the size of the photograph
        left[:, :24] = 200
        path = tmp_path / f"depth/{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(left.numpy()).save(path)
    for invert in (False, True):
        depth = DepthFolder(tmp_path / "depth", invert=invert)
        sample = SyntheticPairs(photos, FocusSynthesis(depth)).load(0)
        near_is_sharp = (sample["b"] == sample["reference"]).all(0)
        assert bool(near_is_sharp[:, :46].all()) != invert
        assert bool(near_is_sharp[:, 50:].all()) == invert
    (tmp_path / "depth/2.png").unlink()
    with pytest.raises(DataError, match="no depth map named 2"):
        SyntheticPairs(photos, FocusSynthesis(DepthFolder(tmp_path / "depth"))).load(2)
    Image.new("L", (8, 8), 7).save(tmp_path / "depth/1.png")
    with pytest.raises(DataError, match=r"1\.png: no threshold of its depth gives a near layer of 5% to 95%"):
        SyntheticPairs(photos, FocusSynthesis(DepthFolder(tmp_path / "depth"))).load(1)


def test_areas_are_kept(photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis(DepthPlane(tilt=0.5), area=(0.4, 0.5)), draws="sample")
    shares = [
        float((pair["b"] == pair["reference"]).all(0).float().mean()) for pair in (made.draw(0, s) for s in range(20))
    ]
    assert min(shares) > 0.35 and max(shares) < 0.55


def test_imagined_scenes_vary(photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis(ImaginedDepth(32)), draws="sample")
    near = [(pair["b"] == pair["reference"]).all(0) for pair in (made.draw(0, seed) for seed in range(10))]
    assert len({mask.numpy().tobytes() for mask in near}) > 6
    assert not all(bool((mask.all(1) | ~mask.any(1)).all()) for mask in near)  # not only a horizon


def test_pictures_smaller_than_the_kernel(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "small/x.png", height=6, width=9)
    sample = SyntheticPairs(Images(tmp_path / "small"), FocusSynthesis()).load(0)
    assert sample["a"].shape == (3, 6, 9)


def test_folders_of_folders_of_photographs(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "photos/one.png", 1)
    write(tmp_path / "photos/däy/two.jpg", 2)
    assert [pair.name for pair in Images(tmp_path / "photos", recursive=True).pairs] == ["däy_two", "one"]
    assert [pair.name for pair in Images(tmp_path / "photos").pairs] == ["one"]
    with pytest.raises(DataError, match="no such folder"):
        len(Images(tmp_path / "none", recursive=True))


def test_written_focus_pairs_are_read_as_mfiwhu(tmp_path: Path, photos: Images) -> None:
    made = SyntheticPairs(photos, FocusSynthesis())
    assert export(made, tmp_path / "out") == 3
    read = MFIWHU(tmp_path / "out")
    for i in range(3):
        for key in ("a", "b", "reference"):
            assert torch.equal(read[i][key], made.load(i)[key])
    kept = tmp_path / "out/source_1/0.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out/source_2/1.png").unlink()
    export(made, tmp_path / "out")
    assert kept.stat().st_mtime_ns == before and len(MFIWHU(tmp_path / "out")) == 3


def test_written_crops_do_not_depend_on_threads(tmp_path: Path, photos: Images) -> None:
    made = SyntheticPairs(photos, ExposureSynthesis(noise=0.01))
    crop = train_transform(16)
    for threads in (1, 4):
        assert export(made, tmp_path / f"out{threads}", 9, crop, threads=threads) == 9
    for path in (tmp_path / "out1").rglob("*.png"):
        other = tmp_path / "out4" / path.relative_to(tmp_path / "out1")
        assert torch.equal(read_image(path).pixels, read_image(other).pixels)
    pairs = SCIE(tmp_path / "out1")
    assert len(pairs) == 9 and pairs[0]["a"].shape == (3, 16, 16)
    rows = (tmp_path / "out1/pairs.csv").read_text().splitlines()
    assert rows[0] == "name,image,seed" and len(rows) == 10 and rows[1].startswith("1,0,")


def test_written_quadruples_are_read_again(data_dir: Path, tmp_path: Path) -> None:
    made = quadruples(data_dir, "source")
    export(made, tmp_path / "quads", 5, train_transform(16, zoom=(1.0, 1.0)))
    vif, mff = FocusQuadruples(tmp_path / "quads")[2], FocusQuadruples(tmp_path / "quads", task="mff")[2]
    assert (vif["task"], vif["auxiliary_task"], mff["task"], mff["auxiliary_task"]) == ("vif", "mff", "mff", "vif")
    assert torch.equal(vif["a"], mff["reference"]) and torch.equal(vif["auxiliary_a"], mff["a"])
    assert torch.equal(vif["b"], mff["auxiliary_b"]) and torch.equal(vif["reference"], vif["a"])
    cut = FocusQuadruples(tmp_path / "quads", transform=train_transform(8))[SampleKey(2, 5)]
    assert cut["auxiliary_a"].shape == (3, 8, 8)
    (tmp_path / "quads/visible_focus_near/train/3.png").unlink()
    with pytest.raises(DataError, match=r"without a partner in .*visible_focus_far/train \(3\.png\)"):
        len(FocusQuadruples(tmp_path / "quads"))
    (tmp_path / "quads/visible_focus_far/train/3.png").unlink()
    with pytest.raises(DataError, match="1 names are not in visible_focus_far and visible_focus_near: 3;"):
        len(FocusQuadruples(tmp_path / "quads"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocusSynthesis(kernel_size=4), "kernel_size=4: expected an odd number"),
        (lambda: FocusSynthesis(sigma=0), "sigma=0"),
        (lambda: FocusSynthesis(sigma=(2.0, 1.0)), r"sigma=\(2.0, 1.0\)"),
        (lambda: FocusSynthesis(area=(0.9, 0.1)), "area="),
        (lambda: ExposureSynthesis(stops=(0, 1)), "stops="),
        (lambda: ExposureSynthesis(noise=-1), "noise=-1"),
        (lambda: DepthPlane(tilt=-1), "tilt=-1"),
        (lambda: ImaginedDepth(2), "resolution=2"),
        (lambda: SyntheticPairs(Images("x"), FocusSynthesis(), main="b"), "main=b"),  # type: ignore[arg-type]
        (lambda: SyntheticPairs(Images("x"), FocusSynthesis(), draws="once"), "draws=once"),  # type: ignore[arg-type]
        (lambda: FocusQuadruples("x", task="mef"), "task=mef, expected vif or mff"),
        (lambda: export(SyntheticPairs(Images("x"), FocusSynthesis()), "y", ending=".gif"), r"ending=\.gif"),
        (lambda: export(SyntheticPairs(Images("x"), FocusSynthesis()), "y", count=0), "count=0"),
        (lambda: export(SyntheticPairs(Images("x"), FocusSynthesis()), "y", count=3), "crop_size"),
    ],
)
def test_impossible_values_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        make()
