"""Files that grow, lie or would start something are refused in one line, within little memory, and none ends the process."""

import importlib.util
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fusion.data.files.headers import jp2_size, jxl_size
from fusion.data.files.labels import read_class_map, read_voc_boxes
from fusion.data.files.reading import read_raster
from fusion.errors import DataError, WeightsError
from fusion.models.loading import read_checkpoint


@pytest.fixture(scope="module")
def bombs() -> ModuleType:
    """experiments/reliability/bombs.py."""
    path = Path(__file__).parents[2] / "experiments" / "reliability" / "bombs.py"
    spec = importlib.util.spec_from_file_location("bombs", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(bombs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All of them; `marker` beside their folder is what those leave that run something."""
    folder = tmp_path_factory.mktemp("bombs")
    return bombs.pictures(folder / "files", folder / "marker")


def read_in_a_fork(paths: list[Path], told: Path) -> int:
    """Read files in a child; it writes what each gave and the megabytes it took. Returns how the child ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
            with told.open("w") as out:
                for path in paths:
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    print(json.dumps([path.name, None, 0]), file=out, flush=True)  # stays the last where it dies
                    try:
                        read_raster(path)
                        text = "read"
                    except DataError as error:
                        text = str(error)
                    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
                    print(json.dumps([path.name, text, grown]), file=out, flush=True)
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore")
def test_bombs_are_refused_within_little_memory(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_MAX_PIXELS", "4000000")
    marker = files[0].parents[1] / "marker"
    assert len(files) > 45
    status = read_in_a_fork(files, tmp_path / "told")
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert status == 0, (signal.Signals(-status).name if status < 0 else status, told[-1])
    answers = {name: (text, grown) for name, text, grown in told if text is not None}
    assert len(answers) == len(files) and not marker.exists()
    for name, (text, grown) in answers.items():
        assert text != "read", name
        assert name in text and ("\n" not in text or "\n" in name), text
        assert grown < 150, (name, grown)


@pytest.mark.filterwarnings("ignore")
def test_class_maps_are_guarded_too(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_MAX_PIXELS", "4000000")
    for path in files:
        if path.suffix in (".png", ".tif", ".eps") and path.name != "cycle_tif.tif":  # whose first page is sound
            with pytest.raises(DataError) as told:
                read_class_map(path, (4, 4))
            assert path.name in str(told.value)


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (64, 48), (120, 100), (160, 90), (125, 100), (513, 3), (3, 9000), (768, 512)]
)
def test_sizes_of_jpeg_xl_are_those_of_the_decoder(tmp_path: Path, size: tuple[int, int], boxed: bool) -> None:
    import imagecodecs

    path, (width, height) = tmp_path / "x.jxl", size
    values = np.zeros((height, width), np.uint8)
    path.write_bytes(imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=boxed))
    assert jxl_size(path) == size and read_raster(path).size == (height, width)


def test_sizes_of_jpeg_2000_are_those_of_the_decoder(tmp_path: Path) -> None:
    import imagecodecs

    path = tmp_path / "x.jp2"
    for codec in ("j2k", "jp2"):
        for values in (np.zeros((7, 30), np.uint8), np.zeros((33, 5, 3), np.uint16)):
            path.write_bytes(imagecodecs.jpeg2k_encode(values, codecformat=codec))
            assert jp2_size(path) == (values.shape[1], values.shape[0], values[0, 0].size)
            assert read_raster(path).size == values.shape[:2]


def test_entities_of_label_files_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    many = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    for text in (
        f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "lol">{many}]><a>&l9;</a>',
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        '<?xml version="1.0" encoding="none-such"?><a/>',
        '<?xml version="1.0" encoding="utf-7"?><a/>',
        "<a>" * 5,
        "",
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=r"x\.xml: unreadable annotation"):
            read_voc_boxes(path, ["person"], None)


@pytest.mark.parametrize("length", [0, 2**20, 2**60, 2**64 - 1])
def test_lying_headers_of_safetensors_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        length.to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}'
    )
    with pytest.raises(WeightsError, match=r"x\.safetensors: damaged"):
        read_checkpoint(path)
