"""Sources on one grid and the way back: units, gaps, bands, fits, overlap, registration."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from fusion.data.files.raster import Metadata, Raster
from fusion.data.sources import Sources, prepare
from fusion.data.transforms.alignment import alignment
from fusion.data.transforms.fit import fit_raster, place
from fusion.data.transforms.grid import Geometry, inner_rectangle
from fusion.data.transforms.registration import register_raster, warp
from fusion.errors import ConfigError, DataError

RNG = np.random.default_rng(1)


def raster(values: np.ndarray, **more: object) -> Raster:
    values = values[None] if values.ndim == 2 else values
    white = {"u1": 255, "u2": 65535, "u4": 2**32 - 1}.get(values.dtype.str[1:])
    limits = (0.0, float(white)) if white else None
    channels = {1: "gray", 3: "rgb"}.get(len(values), "bands")
    return replace(Raster(np.ascontiguousarray(values), channels, limits), **more)  # type: ignore[arg-type]


def mean(sources: Sources) -> Tensor:
    return torch.stack(sources.images).mean(0)


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, high, shape).astype(dtype)


# Depth and units -----------------------------------------------------------------------------------------------------


def test_the_deeper_source_decides() -> None:
    eight, sixteen = raster(noise(3, 5, 6)), raster(noise(5, 6, high=65536, dtype=np.uint16))
    made = prepare([eight, sixteen])
    result = made.finish(mean(made))
    expected = np.rint((eight.planes / 255 + sixteen.planes / 65535) / 2 * 65535)
    assert result.planes.dtype == np.uint16 and np.abs(result.planes - expected).max() <= 1
    assert len(np.unique(result.planes)) > 60
    assert made.finish(mean(made), "8").planes.dtype == np.uint8
    assert made.finish(mean(made), "float").planes.dtype == np.float32
    with pytest.raises(ConfigError, match="depth=12: expected one of keep, 8, 16, 32, float"):
        made.finish(mean(made), "12")


def test_eight_bit_results_are_what_they_were() -> None:
    a, b = raster(noise(3, 17, 13)), raster(noise(3, 17, 13))
    made = prepare([a, b])
    before = (torch.from_numpy(a.planes).float() / 255 + torch.from_numpy(b.planes).float() / 255) / 2
    assert torch.equal(mean(made)[0], before)
    assert np.array_equal(made.finish(mean(made)).planes, (before * 255).round().to(torch.uint8).numpy())


def test_sources_of_one_range_give_a_result_in_their_units() -> None:
    a, b = (raster(noise(5, 6, high=2048, dtype=np.uint16)) for _ in range(2))
    made = prepare([a, b], [0, 2047])
    result = made.finish(mean(made))
    assert np.abs(result.planes - (a.planes.astype(float) + b.planes) / 2).max() <= 0.5 + 1e-6
    assert result.limits == (0, 2047)
    kelvin = [raster((280 + 30 * RNG.random((5, 6))).astype(np.float32)) for _ in range(2)]
    made = prepare(kelvin, {"a": [270, 320], "b": [270, 320]})
    result = made.finish(mean(made))
    assert np.allclose(result.planes, (kelvin[0].planes + kelvin[1].planes) / 2, atol=1e-3)
    assert prepare([kelvin[0], raster(noise(5, 6))]).finish(mean(made)).planes.max() <= 1  # no common unit


# Gaps ----------------------------------------------------------------------------------------------------------------


def test_gaps_show_the_other_source_and_stay_where_both_have_none() -> None:
    a, b = (RNG.random((6, 6)).astype(np.float32) for _ in range(2))
    valid = [np.ones((6, 6), bool), np.ones((6, 6), bool)]
    valid[0][0], valid[1][1], valid[0][2], valid[1][2] = False, False, False, False
    pair = [
        raster(np.where(v, x, np.nan).astype(np.float32), limits=(0.0, 1.0), valid=v)
        for x, v in zip((a, b), valid, strict=True)
    ]
    made = prepare(pair)
    assert all(bool(torch.isfinite(image).all()) for image in made.images)
    result = made.finish(mean(made)).planes[0]
    assert np.allclose(result[0], b[0]) and np.allclose(result[1], a[1]) and np.isnan(result[2]).all()
    assert np.allclose(result[3:], (a[3:] + b[3:]) / 2)
    marked = [
        replace(x, planes=np.nan_to_num(x.planes * 60000).astype(np.uint16), limits=(0.0, 65535.0), nodata=7.0)
        for x in pair
    ]
    made = prepare(marked)
    assert (made.finish(mean(made)).planes[0][2] == 7).all()


# Bands ---------------------------------------------------------------------------------------------------------------


def test_bands_are_fused_one_by_one() -> None:
    pan, ms = raster(noise(5, 6, dtype=np.uint16)), raster(noise(4, 5, 6, dtype=np.uint16))
    made = prepare([pan, ms])
    assert made.by_band and made.images[0].shape == (4, 3, 5, 6)
    result = made.finish(mean(made))
    assert result.channels == "bands" and result.planes.shape == (4, 5, 6)
    assert np.abs(result.planes - (pan.planes.astype(float) + ms.planes) / 2).max() <= 1
    chosen = prepare([pan, ms], bands=[3, 2, 1])
    assert not chosen.by_band and torch.equal(chosen.images[1][0, 0] * 65535, torch.from_numpy(ms.planes[2]).float())
    assert prepare([raster(noise(3, 5, 6)), raster(noise(3, 5, 6))], bands="each").images[0].shape == (3, 3, 5, 6)
    with pytest.raises(DataError, match="has 4 bands, band 5"):
        prepare([pan, ms], bands=[5])
    with pytest.raises(DataError, match="has 3 bands, the other source 4"):
        prepare([raster(noise(3, 5, 6)), ms])
    with pytest.raises(ConfigError, match="bands=all: expected auto, each, rgb or a list"):
        prepare([pan, ms], bands="all")


# Sizes ---------------------------------------------------------------------------------------------------------------


def circle(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.where(np.hypot(y - height / 2, x - width / 2) < radius, 255, 0).astype(np.uint8)


def test_a_circle_stays_a_circle() -> None:
    visible, thermal = raster(np.zeros((1080 // 8, 1920 // 8), np.uint8)), raster(circle(512 // 8, 640 // 8, 20))
    for fit, scale in (("contain", 1080 / 512), ("cover", 1920 / 640)):
        fitted, overlap = fit_raster(thermal, visible.size, fit)
        rows, columns = np.nonzero(fitted.planes[0] > 127)
        assert fitted.size == visible.size and abs(np.ptp(rows) - np.ptp(columns)) <= 1
        assert np.ptp(columns) == pytest.approx(40 * scale, abs=6)
        assert (overlap.right - overlap.left == 240) == (fit == "cover")
    stretched, _ = fit_raster(thermal, visible.size, "stretch")
    rows, columns = np.nonzero(stretched.planes[0] > 127)
    assert np.ptp(columns) > 1.3 * np.ptp(rows)


def test_a_known_scale_and_offset() -> None:
    small = raster(noise(10, 12))
    fitted, overlap = fit_raster(small, (40, 60), [2.0, 7, 5])
    assert overlap == (5, 25, 7, 31) and fitted.valid is not None and fitted.valid.sum() == 20 * 24
    assert place((512, 640), (1024, 1280)) == (0, 0, 1024, 1280) and place((480, 641), (960, 1280)).width == 1280
    with pytest.raises(DataError, match="outside the other source"):
        fit_raster(small, (40, 60), [1.0, 100, 0])
    for wrong in ("fill", [1, 2], [0, 1, 1]):
        with pytest.raises(ConfigError, match="fit="):
            Geometry(match_size="a", fit=wrong)  # type: ignore[arg-type]


def test_different_sizes_are_refused_or_fitted_with_the_overlap_said() -> None:
    wide, narrow = raster(noise(3, 30, 60)), raster(noise(20, 25))
    with pytest.raises(DataError, match=r"60x30 and .*25x20.*match_size=a .*fit=contain, cover"):
        prepare([wide, narrow])
    made = prepare([wide, narrow], geometry=Geometry(match_size="a"))
    assert any("b covers columns 11 to 49, rows 0 to 30 of a, 63 % of it" in line for line in made.notes)
    result = made.finish(mean(made))
    assert np.array_equal(result.planes[:, :, :11], wide.planes[:, :, :11])  # a alone, untouched
    cropped = prepare([wide, narrow], geometry=Geometry(match_size="a", overlap="crop"))
    assert cropped.finish(mean(cropped)).size == (30, 38)
    clear = prepare([wide, narrow], geometry=Geometry(match_size="a", overlap="alpha"))
    alpha = clear.finish(mean(clear)).alpha
    assert alpha is not None and alpha[:, 11:49].all() and not alpha[:, :11].any()
    assert prepare([wide, narrow], geometry=Geometry(match_size="b")).finish(mean(cropped)[..., :20, :25]).size == (
        20,
        25,
    )
    with pytest.raises(ConfigError, match="match_size=c: expected a, b or null"):
        Geometry(match_size="c")


def test_inner_rectangle() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:17, 5:22] = True
    assert inner_rectangle(mask) == (3, 17, 5, 22)
    slanted = np.add.outer(np.arange(20), np.arange(30)) > 8
    box = inner_rectangle(slanted)
    assert (
        slanted[box.top : box.bottom, box.left : box.right].all()
        and (box.bottom - box.top) * (box.right - box.left) > 200
    )


# Alignment -----------------------------------------------------------------------------------------------------------


def scene(seed: int, height: int = 140, width: int = 180) -> np.ndarray:
    """Rectangles of random grey: edges in every direction."""
    chance = np.random.default_rng(seed)
    canvas = np.full((height, width), 100.0)
    for _ in range(45):
        y, x = chance.integers(0, height), chance.integers(0, width)
        canvas[y : y + chance.integers(6, 40), x : x + chance.integers(6, 40)] = chance.integers(0, 256)
    return canvas


def other_camera(view: np.ndarray) -> np.ndarray:
    """The same edges with other, partly inverted grey levels, and noise."""
    table = np.random.default_rng(9).permutation(256)
    return (
        (0.5 * table[view.astype(int)] + np.random.default_rng(8).normal(0, 4, view.shape))
        .clip(0, 255)
        .astype(np.uint8)
    )


def test_alignment_tells_displaced_pairs_from_aligned_and_from_unrelated_ones() -> None:
    view = scene(0)
    thermal = other_camera(view)
    cut = (slice(20, 120), slice(20, 160))
    aligned = alignment(view[cut][None], thermal[cut][None])
    assert aligned.score > 0.95 and not aligned.is_off((100, 140))
    moved = alignment(view[cut][None], thermal[14:114, 30:170][None])
    assert moved.is_off((100, 140)) and (round(moved.dx), round(moved.dy)) == (-10, 6)
    unrelated = alignment(view[cut][None], other_camera(scene(1))[cut][None])
    assert not unrelated.known and not unrelated.is_off((100, 140))
    flat = alignment(np.zeros((1, 50, 50)), thermal[None, :50, :50])
    assert not flat.known and np.isnan(flat.score)
    assert not alignment(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))).known


def test_a_displaced_pair_is_warned_about() -> None:
    view = scene(0)
    a, b = raster(view[20:120, 20:160].astype(np.uint8)), raster(other_camera(view)[14:114, 30:170])
    assert any(
        "does not lie on" in line and "register=ecc" in line for line in prepare([a, b], check_alignment=True).notes
    )
    assert not any("does not lie on" in line for line in prepare([a, a], check_alignment=True).notes)


@pytest.mark.parametrize("kind", ["shift", "turn"])
def test_registration_brings_another_cameras_picture_back(kind: str) -> None:
    cv2 = pytest.importorskip("cv2")
    view = scene(0)
    fixed, true = raster(view.astype(np.uint8)), raster(other_camera(view))
    matrix = np.array([[1, 0, 7.0], [0, 1, -5.0], [0, 0, 1]])
    if kind == "turn":
        matrix = np.vstack([cv2.getRotationMatrix2D((90, 70), 4, 1.04), [0, 0, 1]])
    moved = warp(true, matrix)
    back, said = register_raster(fixed, moved, "ecc", "affine")
    assert "registered by ecc" in said[0]
    both = back.valid if back.valid is not None else np.ones(back.size, bool)
    before = np.abs(moved.planes.astype(float) - true.planes)[0, both].mean()
    after = np.abs(back.planes.astype(float) - true.planes)[0, both].mean()
    assert after < 0.5 * before


def test_registration_leaves_what_it_cannot_improve() -> None:
    pytest.importorskip("cv2")
    fixed, other = raster(scene(0, 60, 70).astype(np.uint8)), raster(np.full((60, 70), 9, np.uint8))
    same, said = register_raster(fixed, other, "features", "homography")
    assert same is other and said[0].startswith("warning: ")
    for wrong in ({"register": "sift"}, {"register": "ecc", "motion": "twist"}, {"overlap": "cut"}):
        with pytest.raises(ConfigError):
            Geometry(**wrong)


# Colour profiles -----------------------------------------------------------------------------------------------------


def wide_profile() -> bytes:
    """An ICC profile with the primaries and the gamma of Adobe RGB (1998)."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    name = b"Adobe RGB (1998) by a test\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 0x0233, 0)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.95045, 1.0, 1.08905),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", 63190, 65536, 54061) + b"\0" * 48
    return head + table + body


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_of_the_second_source_are_brought_to_the_first_ones_profile(dtype: type) -> None:
    picture = noise(3, 6, 7)
    deep = picture.astype(dtype) * (257 if dtype is np.uint16 else 1)
    icc = wide_profile()
    made = prepare([raster(deep, metadata=Metadata(icc=icc)), raster(deep)])
    assert any("converted from sRGB to Adobe RGB (1998)" in line for line in made.notes)
    assert any("Adobe RGB (1998) by a test) is kept in the result" in line for line in made.notes)
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(srgb, ImageCms.ImageCmsProfile(io.BytesIO(icc)), "RGB", "RGB")
    expected = np.asarray(ImageCms.applyTransform(Image.fromarray(picture.transpose(1, 2, 0)), transform))
    got = made.images[1][0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - expected).max() <= 3 and np.abs(got - picture.transpose(1, 2, 0)).max() > 5
    assert np.abs(made.images[0][0].numpy() * 255 - picture).max() < 1e-3  # the first one stays
    assert made.finish(mean(made)).metadata.icc == icc
    assert not any("converted" in line for line in prepare([raster(deep), raster(noise(6, 7))]).notes)
