"""An evaluation in W&B and in a file of measured numbers: the same numbers as in its own tables."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parent / "plugin"


def test_an_evaluation_logs_its_tables_and_records_its_means(
    door: Callable[..., Any], offline: Callable[[Path], Any], miniature: Path, tmp_path: Path
) -> None:
    folder, measured = tmp_path / "run", tmp_path / "measured" / "table.csv"
    done = door(
        "evaluate", "--config-dir", str(PLUGIN / "conf"), "model=average", "data=miniature",
        f"paths.data_dir={miniature}", "trainer=cpu", "baselines=[maximum]", "evaluation.metrics=[psnr]",
        "save_images=false", "logger=wandb", f"record={measured}", f"run_dir={folder}",
    )  # fmt: skip
    assert done.status == 0, done.err
    *_, place, hint, sheet = done.out.strip().splitlines()
    assert (place, hint) == (f"run folder: {folder}", f"report: python -m fusion.report run={folder}")
    assert sheet == f"contact sheet: {folder / 'contact_sheet.png'}"
    assert "model average (Average): 0.0 k parameters trained, 0.0 k frozen" in done.out
    assert "data: test vif 5 pairs" in done.out and "average: scored 5 pairs in 0:00:0" in done.out
    run = offline(folder)
    assert run.job_type == "evaluate" and "average" in run.tags
    assert run.history["scores/nrows"] == [10] and run.history["summary/nrows"] == [2]
    with (folder / "summary.csv").open() as file:
        means = list(csv.DictReader(file))
    for row in means:
        assert run.summary[f"{row['dataset']}/{row['method']}/psnr"] == pytest.approx(float(row["psnr"]))
    with measured.open() as file:
        kept = list(csv.DictReader(file))
    assert [(row["method"], row["psnr"], row["pairs"]) for row in kept] == [
        (row["method"], row["psnr"], "5") for row in means
    ]
    assert all(row["hardware"] and row["date"] and "record=" in row["command"] for row in kept)
