"""Reading, fusing and writing side by side: batches change nothing, errors belong to their pair, interrupts leave whole files."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fusion
from fusion.data.files.raster import Raster
from fusion.data.sources import Sources, prepare
from fusion.errors import ConfigError, DataError
from fusion.inference import folders
from fusion.inference.batches import batch_of, check_batch_size, kind_of
from fusion.inference.folders import fuse_group
from fusion.inference.pipeline import Pipeline

MODELS = [
    "average", "maximum", "laplacian", "guided_filter", "seafusion", "ifcnn", "densefuse", "toar_base", "gifnet",
    "moe_fusion_saliency", "tcmoa_pyramid", "tcmoa_tiny",
]  # fmt: skip


def raster(seed: int, channels: int = 3, size: tuple[int, int] = (40, 56)) -> Raster:
    planes = np.random.default_rng(seed).integers(0, 256, (channels, *size), dtype=np.uint8)
    return Raster(planes, "gray" if channels == 1 else "rgb", (0.0, 255.0))


@pytest.mark.parametrize("name", MODELS)
def test_batches_change_nothing(name: str) -> None:
    model = fusion.load_model(name, allow_untrained=True)
    group = [prepare([raster(seed), raster(100 + seed, 1)]) for seed in range(3)]
    together = fuse_group(model, group, "vif", "auto", {})
    for sources, output in zip(group, together, strict=True):
        (alone,) = fuse_group(model, [sources], "vif", "auto", {})
        assert output.fused.shape == alone.fused.shape
        assert float((output.fused - alone.fused).abs().max()) <= 1e-6
        assert output.extras["color"] == alone.extras["color"]


@pytest.mark.parametrize(("task", "overrides"), [("pansharpening", []), ("vif", ["model.color=official"])])
def test_grey_or_not_is_decided_by_picture(task: str, overrides: list[str]) -> None:
    model = fusion.load_model("gifnet", overrides=overrides, allow_untrained=True)
    colored, other = raster(1), raster(2)
    gray = Raster(np.repeat(raster(3, 1).planes, 3, axis=0), "rgb", (0.0, 255.0))
    group = [prepare([other, colored]), prepare([gray, gray])]
    for sources, output in zip(group, fuse_group(model, group, task, "auto", {}), strict=True):
        (alone,) = fuse_group(model, [sources], task, "auto", {})
        assert float((output.fused - alone.fused).abs().max()) <= 1e-6


def test_what_makes_a_batch() -> None:
    one, two = prepare([raster(1), raster(2, 1)]), prepare([raster(3), raster(4, 1)])
    swapped, small = prepare([raster(1, 1), raster(2)]), prepare([raster(1, size=(9, 9)), raster(2, 1, size=(9, 9))])
    assert kind_of(one, {}) == kind_of(two, {"alpha": 2.0})
    assert len({kind_of(sources, {}) for sources in (one, swapped, small)}) == 3
    assert kind_of(one, {"boxes": [[1, 2, 3, 4]]}) is None
    assert kind_of(prepare([raster(1, 4), raster(2, 4)], bands="each"), {}) is None
    model = fusion.load_model("average")
    assert batch_of(one, model, 1 << 40) == 1 and batch_of(one, model, 1 << 40, 5) == 5
    model.to(torch.device("meta"))  # any device but a CPU
    large = prepare([raster(1, size=(2000, 2000))] * 2)
    assert batch_of(one, model, 1 << 40) == 16 > batch_of(large, model, 1 << 40) == 1
    assert batch_of(one, model, 1) == 128**2 // (40 * 56)  # never less than the smallest tile
    assert check_batch_size("auto") is None and check_batch_size(3) == 3
    for wrong in (0, True, "many", 1.5):
        with pytest.raises(ConfigError, match="batch_size="):
            check_batch_size(wrong)


def run(count: int, **stages: Any) -> list[Any]:
    given: dict[str, Any] = {
        "read": lambda job, number: job,
        "fuse": lambda group: group,
        "write": lambda job, read, made: made,
        "kind": lambda read: read % 2,
        "together": lambda read: 3,
    }
    with closing(Pipeline(**given | stages).run(list(range(count)))) as outcomes:
        return list(outcomes)


def test_every_job_comes_once_and_kinds_are_taken_together() -> None:
    groups: list[list[int]] = []

    def fuse(group: list[int]) -> list[int]:
        groups.append(list(group))
        return [10 * value for value in group]

    outcomes = run(20, fuse=fuse, workers=3)
    assert sorted(outcome.job for outcome in outcomes) == list(range(20))
    assert all(outcome.result == 10 * outcome.job and outcome.error is None for outcome in outcomes)
    assert all(len({value % 2 for value in group}) == 1 for group in groups) and max(map(len, groups)) == 3
    assert [outcome.job for outcome in run(9, together=lambda read: 1)] == list(range(9))


def test_errors_belong_to_their_job_in_every_stage() -> None:
    def stage(wrong: int) -> Callable[..., Any]:
        def act(value: Any, *rest: Any) -> Any:
            if value == wrong or (isinstance(value, list) and wrong in value):
                raise DataError(f"no {wrong}")
            return value

        return act

    outcomes = run(9, read=stage(1), fuse=stage(4), write=stage(7), workers=2)
    assert {outcome.job: str(outcome.error) for outcome in outcomes if outcome.error} == {
        n: f"no {n}" for n in (1, 4, 7)
    }
    assert sorted(outcome.result for outcome in outcomes if outcome.error is None) == [0, 2, 3, 5, 6, 8]


def test_no_more_waits_than_there_is_room_for() -> None:
    lock, held, most = threading.Lock(), 0, 0

    def read(job: int, number: int) -> int:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return job

    def write(job: int, given: int, made: int) -> int:
        nonlocal held
        time.sleep(0.001)
        with lock:
            held -= 1
        return job

    assert len(run(12, read=read, write=write, size=lambda job: 10, room=25, workers=4)) == 12
    assert most <= 2
    assert len(run(5, read=read, write=write, size=lambda job: 10, room=1)) == 5  # larger than the room: alone


def test_an_interrupt_leaves_whole_results_only(tmp_path: Path, door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for index in range(12):
            Image.fromarray(raster(index).planes.transpose(1, 2, 0)).save(tmp_path / side / f"{index:02d}.png")
    plain, calls = folders.fuse_group, []

    def interrupted(model: Any, group: list[Sources], *rest: Any) -> Any:
        calls.append(len(group))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return plain(model, group, *rest)

    monkeypatch.setattr(folders, "fuse_group", interrupted)
    out = tmp_path / "out"
    status, text = door("predict", "model=average", "device=cpu", f"a={tmp_path}/a", f"b={tmp_path}/b", f"out={out}")
    assert status == 130 and "Traceback" not in text
    names = sorted(path.name for path in out.iterdir())
    assert names and all(name.endswith(".png") and not name.startswith(".") for name in names)
    for name in names:
        with Image.open(out / name) as image:
            image.load()
    monkeypatch.undo()
    status, text = door(
        "predict", "model=average", "device=cpu", f"a={tmp_path}/a", f"b={tmp_path}/b", f"out={out}", "overwrite=false",
        "batch_size=4",
    )  # fmt: skip
    assert status == 0 and f"{len(names)} of 12 results are there already" in text and len(list(out.iterdir())) == 12


def test_a_result_that_cannot_be_written_is_reported_by_its_pair(
    tmp_path: Path, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for index in range(3):
            Image.fromarray(raster(index).planes.transpose(1, 2, 0)).save(tmp_path / side / f"{index}.png")
    plain = folders.write_raster

    def full(path: Path, *rest: Any) -> Any:
        if path.name == "1.png":
            raise DataError(f"{path}: cannot be written (No space left on device).")
        return plain(path, *rest)

    monkeypatch.setattr(folders, "write_raster", full)
    arguments = ["model=average", "device=cpu", f"a={tmp_path}/a", f"b={tmp_path}/b", f"out={tmp_path}/out"]
    status, text = door("predict", *arguments, "batch_size=2")
    assert status == 1 and "error: 1: " in text and "No space left" in text and "1 of 3 pairs" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
