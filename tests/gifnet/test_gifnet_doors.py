"""GIFNet through the command lines: folders of all six tasks, analysis, and a training of a few steps."""

import csv
import importlib
import sys

import pytest
import torch

from fusion.analysis.features import stretched
from fusion.analysis.gates import moving_average, read_curves
from fusion.data.files.image import read_image, write_image
from fusion.errors import DataError


@pytest.fixture
def door(monkeypatch, capfd):
    def run(name, *arguments):
        main = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def folders(tmp_path, official_state):
    torch.save(official_state, tmp_path / "Final.model")
    for side in "ab":
        small = torch.rand(1, 3, 4, 4)
        picture = torch.nn.functional.interpolate(small, (33, 40), mode="bilinear")[0]
        write_image(tmp_path / side / "one.png", picture)
    return tmp_path


@pytest.mark.parametrize("task", ["vif", "mff", "mef", "medical", "nir", "pansharpening"])
def test_folders_of_every_task(door, folders, task):
    common = ["model=gifnet", f"ckpt_path={folders}/Final.model", f"a={folders}/a", f"b={folders}/b", "device=cpu"]
    steering = [] if task == "pansharpening" else ["control.gate_scale=0.5"]  # bands have no gates to scale
    status, _, err = door("predict", *common, f"out={folders}/out", f"task={task}", *steering)
    assert status == 0, err
    assert read_image(folders / "out" / "one.png").pixels.shape == (3, 33, 40)


def test_feature_maps_of_folders(door, folders):
    status, out, err = door(
        "analyze", "kind=features", "model=gifnet", f"ckpt_path={folders}/Final.model", "data=folders",
        f"a={folders}/a", f"b={folders}/b", "device=cpu", f"run_dir={folders}/analysis",
    )  # fmt: skip
    assert status == 0, err
    with (folders / "analysis" / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["shared encoder", "mm branch", "dp branch"]
    assert all(float(row["std"]) > 0 for row in rows)
    assert (folders / "analysis" / "features_vif_Folders_one.png").stat().st_size > 1000
    status, _, err = door(
        "analyze", "kind=features", "model=average", "data=folders", f"a={folders}/a", f"b={folders}/b"
    )
    assert status == 2 and "Average as configured has no feature maps" in err


def test_gates_of_a_run(door, tmp_path):
    text = "step,gate/mm,gate/dp,loss\n1,0.5,0.25,3\n1,,,4\n3,0.4,0.2,2\n"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text(text)
    assert read_curves(tmp_path / "run") == {"mm": [(1, 0.5), (3, 0.4)], "dp": [(1, 0.25), (3, 0.2)]}
    status, _, err = door("analyze", "kind=gates", f"dir={tmp_path}/run", "gates.smooth=2", f"run_dir={tmp_path}/out")
    assert status == 0, err
    assert (tmp_path / "out" / "gates.csv").read_text().splitlines()[1] == "mm,1,0.5"
    assert (tmp_path / "out" / "gates.png").stat().st_size > 1000
    status, _, err = door("analyze", "kind=gates")
    assert status == 2 and "kind=gates needs the folder of a run" in err
    (tmp_path / "run" / "metrics.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(DataError, match=r"no column gate/\*"):
        read_curves(tmp_path / "run")
    with pytest.raises(DataError, match="no metrics.csv there"):
        read_curves(tmp_path)


def test_moving_average_and_stretched():
    assert moving_average([1.0, 3.0, 8.0], 2) == [1.0, 2.0, 5.5]
    assert stretched(torch.tensor([[1.0, 3.0], [2.0, 1.0]])).tolist() == [[0.0, 1.0], [0.5, 0.0]]
    assert not stretched(torch.ones(2, 2)).any()


def test_training_logs_both_gates_and_what_it_saves_fuses(door, tmp_path):
    import fusion

    for folder in (f"LLVIP/{side}/{part}" for side in ("visible", "infrared") for part in ("train", "test")):
        for index in range(2):
            write_image(tmp_path / folder / f"{index}.jpg", torch.rand(3, 40, 48))
    status, _, err = door(
        "train", "experiment=gifnet_short", f"paths.data_dir={tmp_path}", f"run_dir={tmp_path}/run", "logger=csv",
        "trainer.accelerator=cpu", "data.crop_size=32", "data.batch_size=1", "data.rounds_per_epoch=2", "data.val_crop=32",
        "callbacks.images=null",
    )  # fmt: skip
    assert status == 0, err
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = [row for row in rows if row.get("gate/mm")]
    assert logged and all(row["gate/dp"] and row["train/vif/loss"] for row in logged)
    assert any(row.get("train/mff/fused_mse") for row in rows)
    trained = fusion.load_model(ckpt_path=tmp_path / "run")
    assert type(trained).__name__ == "GIFNet"
    assert trained.fuse(torch.rand(3, 16, 16), torch.rand(3, 16, 16)).fused.isfinite().all()
