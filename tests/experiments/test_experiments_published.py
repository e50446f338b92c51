"""Published tables as data: well formed, linked to experiments, and in agreement with one another."""

import csv
import itertools
import math
from pathlib import Path

import pytest

from fusion.job.config import config_dir
from fusion.metrics.registry import names

ROOT = Path(__file__).parents[2] / "experiments"
TABLES = sorted(ROOT.rglob("published/*.csv"))
TCMOA = ROOT / "tcmoa" / "published"
KEYS = ("task", "method", "model", "dataset", "part", "dominant", "top_k")
"""Columns that say what a row is; `experiment` says how to make it; all others hold numbers."""
DEVIATING = {"table9_tno", "table10_top_k"}
"""Another test set; numbers that contradict the other tables (README)."""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_there_are_tables():
    assert len(TABLES) >= 11


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_table_is_well_formed(path):
    rows = read(path)
    assert rows
    keys = [tuple(row.get(key) for key in KEYS) for row in rows]
    assert len(set(keys)) == len(keys), "two rows of one key"
    assert all(any(key) for key in keys)
    for row in rows:
        assert None not in row and None not in row.values(), f"wrong number of cells: {row}"
        values = [float(text) for key, text in row.items() if key not in (*KEYS, "experiment") and text]
        assert values and all(math.isfinite(value) for value in values)
        assert row.get("task", "vif") in ("vif", "mef", "mff")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_columns_are_metrics_or_explained_and_experiments_exist(path):
    readme = (path.parents[1] / "README.md").read_text()
    assert path.name in readme
    rows = read(path)
    for column in rows[0]:
        assert column in names() or column in (*KEYS, "experiment") or f"`{column}`" in readme, column
    for row in rows:
        if row.get("experiment"):
            assert (config_dir() / "experiment" / f"{row['experiment']}.yaml").is_file()


def test_tables_of_tcmoa_agree_where_they_print_the_same_number():
    cells: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for path in sorted(TCMOA.glob("table*.csv")):
        if path.stem in DEVIATING:
            continue
        for row in read(path):
            experiment = row.get("experiment", "").replace("tcmoa/t4_multi_ma", "tcmoa_large")
            if not experiment or "task" not in row:
                continue
            for metric in set(row) & set(names()):
                if row[metric]:
                    cells.setdefault((experiment, row["task"], metric), []).append((path.stem, row[metric]))
    compared = 0
    for key, printed in cells.items():
        for (table_a, a), (table_b, b) in itertools.combinations(printed, 2):
            decimals = min(len(text.partition(".")[2]) for text in (a, b))
            assert abs(float(a) - float(b)) <= 0.5 * 10**-decimals + 1e-9, (key, table_a, a, table_b, b)
            compared += 1
    assert compared > 20


def test_table10_has_multi_exposure_and_multi_focus_the_other_way_round():
    main = {row["task"]: row for row in read(TCMOA / "table5_finetuning.csv") if row["method"] == "TC-MoA Large"}
    swept = {row["task"]: row for row in read(TCMOA / "table10_top_k.csv") if row["top_k"] == "2"}
    other = {"vif": "vif", "mef": "mff", "mff": "mef"}
    for task, metric in itertools.product(other, ("qabf", "ssim")):
        assert abs(float(swept[task][metric]) - float(main[other[task]][metric])) < 0.01
        if task != "vif" and metric == "ssim":
            assert abs(float(swept[task][metric]) - float(main[task][metric])) > 0.2


def test_intensity_bias_summary_follows_from_its_rows():
    rows = {(row["task"], row["dominant"]): row for row in read(TCMOA / "fig13_intensity_bias.csv")}
    for task in ("vif", "mef", "mff"):
        a, b = rows[task, "a"], rows[task, "b"]
        dominant = float(a["prompt_a"]), float(b["prompt_b"])
        for row in (a, b):
            assert float(row["average_dominant_bias"]) == pytest.approx(sum(dominant) / 2, abs=1.01e-4)
            assert float(row["dominant_bias_difference"]) == pytest.approx(dominant[1] - dominant[0], abs=1e-6)
