"""Table 3's protocol through the doors: train a detector on sources, look at fused images with it."""

import csv
import shutil

import pytest
import torch

from fusion.downstream.detection import DetectionEvaluation
from fusion.errors import ConfigError

DETECTOR = ["backbone=resnet18", "weights=null", "frozen_stages=0", "norm=group", "channels=16", "hidden=32"]
DETECTOR += ["anchors=[8,16,32,64,128]", "proposals=[50,20]", "rpn_samples=32", "roi_samples=32", "score_threshold=0.0"]
SIZE = "resize=[64,96]"


@pytest.fixture(scope="module")
def table():
    def read(path):
        with path.open() as file:
            return list(csv.DictReader(file))

    return read


def test_detector_trains_and_judges_fused_images(door, m3fd, tmp_path, table):
    run, judged, others = tmp_path / "detector", tmp_path / "judged", tmp_path / "others"
    status, said = door(
        "train", "experiment=moe_fusion/detector_m3fd", f"paths.data_dir={m3fd}", f"run_dir={run}", "logger=csv",
        *(f"model.detector.{option}" for option in DETECTOR), f"data.train.m3fd.{SIZE}", "data.train.m3fd.skip=6",
        f"data.val.pairs.{SIZE}", "data.val.pairs.limit=2", "data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=2",
        "optimizer.lr=1e-3",
    )  # fmt: skip
    assert status == 0, said
    watched = [row for row in table(run / "metrics.csv") if row.get("val/mAP")]
    assert len(watched) == 2 and all(0 <= float(row["val/mAP"]) <= 1 for row in watched)
    assert {"val/a/People", "val/b/Car", "val/mAP50-95"} <= set(watched[0])
    shutil.copytree(m3fd / "M3FD" / "Ir", others)  # a method that returns the infrared image
    evaluate = [
        "evaluate", "model=average", "data=m3fd", f"paths.data_dir={m3fd}", f"run_dir={judged}", "data.test.m3fd.limit=3",
        "evaluation.metrics=[qabf]", "contact_sheet=false", "save_images=false", "baselines=[maximum]", "trainer=cpu",
        "data.num_workers=0", "data.test.m3fd.classes=[People,Car,Bus,Motorcycle,Lamp,Truck]", "downstream=detection",
    ]  # fmt: skip
    status, said = door(*evaluate)
    assert status == 2 and "downstream.ckpt_path" in said
    tardal = [word.replace("Motorcycle,Lamp", "Lamp,Motorcycle") for word in evaluate]
    status, said = door(*tardal, f"downstream.ckpt_path={run}")
    assert status == 2 and "data.test.m3fd counts its classes as People, Car, Bus, Lamp, Motorcycle, Truck" in said
    shutil.rmtree(judged, ignore_errors=True)
    status, said = door(*evaluate, f"downstream.ckpt_path={run}", f"+downstream.fused.Warm={others}")
    assert status == 0, said
    rows = {row["method"]: row for row in table(judged / "detection.csv")}
    assert list(rows) == ["average", "Visible", "Infrared", "Warm", "maximum"]
    columns = ("People", "Car", "mAP", "mAP50", "mAP50-95")
    assert [rows["Warm"][key] for key in columns] == [rows["Infrared"][key] for key in columns]
    assert all(row["mAP50"] == row["mAP"] and row["mAP50-95"] for row in rows.values())
    assert all(row["Bus"] == "" for row in rows.values()), "no bus is there to be found"
    assert "| maximum" in (judged / "detection.md").read_text()
    _refusals(run, others, m3fd)


def _refusals(run, others, m3fd):
    evaluation = DetectionEvaluation(str(run), fused={"Warm": str(others)})
    batch = {"a": torch.rand(1, 3, 32, 48), "b": torch.rand(1, 3, 32, 48), "name": ["00001"]}
    assert evaluation.others(batch)["Warm"].shape == (1, 3, 32, 48)
    from fusion.errors import DataError

    with pytest.raises(DataError, match=r"downstream\.fused\.Warm has no image named missing"):
        evaluation.others({**batch, "name": ["missing"]})
    found = evaluation.network("Warm").detect(batch["a"])
    assert found[0]["boxes"].shape[1] == 4


def test_other_checkpoints_are_refused(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "fusion": {"model": {"_target_": "fusion.models.baselines.Average"}}}, path)
    with pytest.raises(
        ConfigError, match=r"downstream\.ckpt_path=.*: expected a run of experiment=moe_fusion/detector_flir"
    ):
        DetectionEvaluation(str(path))
