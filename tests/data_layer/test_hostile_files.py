"""Damaged, cut and lying picture files: each is read or refused by one line, none takes the process along."""

import importlib.util
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data.files.image import read_image
from fusion.data.files.labels import read_class_map
from fusion.data.files.limits import max_pixels, set_max_pixels
from fusion.errors import ConfigError, DataError
from fusion.scoring.workers import Died, in_processes


@pytest.fixture(scope="module")
def files() -> ModuleType:
    """experiments/reliability/files.py."""
    path = Path(__file__).parents[2] / "experiments" / "reliability" / "files.py"
    spec = importlib.util.spec_from_file_location("files", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_150_files_are_read_or_refused_in_one_line(files: ModuleType, tmp_path: Path) -> None:
    read = 0
    for path, surely_wrong in files.hostile_files(tmp_path):
        try:
            picture = read_image(path)
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error)
            continue
        assert not surely_wrong, path
        assert picture.pixels.dtype == torch.uint8 and picture.pixels.shape[0] == 3
        read += 1
    assert 20 < read < 90


@pytest.mark.parametrize("kind", ["png", "png16", "tiff", "bmp", "ppm"])
def test_sound_files_keep_every_value(files: ModuleType, tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_bytes(files.encode(kind))
    assert np.array_equal(read_image(tmp_path / "x").pixels.permute(1, 2, 0).numpy(), files.picture())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_color_png_is_turned_as_any_other(files: ModuleType, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(files.picture()).save(tmp_path / "plain.png", exif=exif)
    chunk = b"eXIf" + exif.tobytes()[6:]
    import struct
    import zlib

    deep = files.encode("png16")
    place = 8 + 25
    block = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "deep.png").write_bytes(deep[:place] + block + deep[place:])
    assert torch.equal(read_image(tmp_path / "deep.png").pixels, read_image(tmp_path / "plain.png").pixels)


def test_one_limit_for_every_reader(monkeypatch: pytest.MonkeyPatch, files: ModuleType, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSION_MAX_PIXELS", "3071")  # one less than 64 x 48
    for kind in files.KINDS:
        path = tmp_path / f"x_{kind}"
        path.write_bytes(files.encode(kind))
        with pytest.raises(DataError, match=r"64x48 = 3,072 pixels, more than data.max_pixels=3071"):
            read_image(path)
        if kind != "png16":
            with pytest.raises(DataError, match="max_pixels"):
                read_class_map(path, (48, 64))
    set_max_pixels(3072)
    assert max_pixels() == 3072
    assert read_image(tmp_path / "x_png").pixels.shape == (3, 48, 64)
    monkeypatch.setenv("FUSION_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="FUSION_MAX_PIXELS=many"):
        max_pixels()


def _double_or_die(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * value


def _nothing() -> None:
    pass


def test_a_worker_that_dies_costs_one_call() -> None:
    start = time.monotonic()
    calls = [(value,) for value in range(8)]
    results = list(in_processes(_double_or_die, calls, 2, get_context("fork"), _nothing, depth=4))
    assert [type(result) for result in results] == [int, int, int, Died, int, int, int, int]
    assert [result for result in results if isinstance(result, int)] == [0, 2, 4, 8, 10, 12, 14]
    assert time.monotonic() - start < 60  # it does not wait for the dead
