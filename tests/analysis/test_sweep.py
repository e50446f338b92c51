"""Tables and curves of a sweep, from folders as a multirun leaves them."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from fusion.analysis.sweep import sweep
from fusion.analysis.sweep_jobs import read_jobs, swept_keys
from fusion.errors import ConfigError, DataError


def make_job(
    folder: Path, overrides: list[str], metrics: dict[str, float] | None, status: str | None = "finished"
) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in overrides))
    if status is not None:
        (folder / "run.json").write_text(json.dumps({"overrides": overrides, "parts": [{"status": status}]}))
        (folder / "config.yaml").write_text("monitor: {metric: val/qabf, mode: max}\nmodel: {tau: 4}\n")
    if metrics is not None:
        results = {"value": metrics["val/qabf"], "monitor": "val/qabf", "metrics": metrics | {"train/vif/loss": 1e-05}}
        (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture
def multirun(tmp_path: Path) -> Path:
    """N in 2, 4, 10 and K in 1, 2; the last failed, one was killed, one never started, one left damaged results."""
    root = tmp_path / "multirun"
    number = 0
    for experts in (2, 4, 10):
        for top_k in (1, 2):
            given = ["experiment=x", f"model.num_experts={experts}", f"model.top_k={top_k}", f"run_dir=r{number}"]
            quality = 0.5 + experts / 100 + top_k / 1000
            metrics = {"val/vif/qabf": quality + 0.1, "val/qabf": quality, "val/ssim": 0.4}
            make_job(root / str(number), given, metrics)
            number += 1
    make_job(root / "6", ["experiment=x", "model.num_experts=4", "model.top_k=3"], None, "failed")
    make_job(root / "7", ["experiment=x", "model.num_experts=4", "model.top_k=4"], None, "running")
    make_job(root / "8", ["experiment=x", "model.num_experts=4", "model.top_k=5"], None, None)
    make_job(root / "10", ["experiment=x", "model.num_experts=4", "model.top_k=1"], None)
    (root / "10" / "results.json").write_text('{"metrics": {"val/qabf": ')
    (root / "multirun.yaml").write_text("hydra: {}\n")
    (root / "notes").mkdir()
    return root


def test_the_table_has_swept_keys_metrics_and_every_job(multirun: Path, tmp_path: Path, capsys) -> None:
    paths = sweep(multirun, tmp_path / "out", {})
    with paths[0].open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["job", "model.num_experts", "model.top_k", "epoch", "val/qabf", "val/vif/qabf", "val/ssim"]
    settings = [(row["model.num_experts"], row["model.top_k"]) for row in rows]
    assert settings == [("2", "1"), ("2", "2"), ("4", "1"), ("4", "2"), ("10", "1"), ("10", "2")]  # numbers, not words
    assert float(rows[3]["val/qabf"]) == pytest.approx(0.542)
    text = paths[1].read_text()
    assert text == capsys.readouterr().out
    assert "Best val/qabf: job 5 (model.num_experts=10, model.top_k=2), 0.6020." in text
    assert "4 of 10 jobs without results:" in text
    assert "- 6 (model.num_experts=4, model.top_k=3): failed" in text
    assert "- 7 (model.num_experts=4, model.top_k=4): still running, or killed" in text
    assert "- 8 (model.num_experts=4, model.top_k=5): never started" in text
    assert "- 10 (model.num_experts=4, model.top_k=1): results.json is damaged" in text
    with Image.open(paths[2]) as picture:
        assert picture.size[0] > picture.size[1]  # two keys beside each other, two metrics below each other


def test_metrics_can_be_chosen(multirun: Path, tmp_path: Path) -> None:
    paths = sweep(multirun, tmp_path / "out", {"metrics": ["train/*", "val/ssim"], "plot": "val/ssim"})
    header, first, *_ = paths[0].read_text().splitlines()
    assert header == "job,model.num_experts,model.top_k,epoch,train/vif/loss,val/ssim"
    assert first == "0,2,1,,1e-05,0.4"
    with pytest.raises(ConfigError, match=r"sweep\.plot: no metric matches 'val/psnr'; these jobs have val/qabf"):
        sweep(multirun, tmp_path / "out", {"plot": ["val/psnr"]})


def test_minimised_metrics_have_the_smallest_as_best(multirun: Path, tmp_path: Path) -> None:
    for config in multirun.glob("*/config.yaml"):
        config.write_text("monitor: {metric: val/qabf, mode: min}\n")
    assert "Best val/qabf: job 0 " in sweep(multirun, tmp_path / "out", {})[1].read_text()


def test_a_value_that_was_not_set_comes_from_the_configuration(multirun: Path) -> None:
    make_job(multirun / "11", ["model.num_experts=4", "model.tau=2"], {"val/qabf": 0.7})
    jobs = read_jobs(multirun)
    assert [job.name for job in jobs] == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "10", "11"]
    assert "model.tau" in swept_keys(jobs) and jobs[0].value("model.tau") == 4


def test_without_hydras_folder_the_manifest_serves(multirun: Path) -> None:
    (multirun / "0" / ".hydra" / "overrides.yaml").unlink()
    assert read_jobs(multirun)[0].overrides["model.num_experts"] == 2


def test_many_lines_are_drawn_in_grey_and_few_in_colour(tmp_path: Path) -> None:
    for count in (15, 3):
        for seed in range(count):
            for top_k in (1, 2):
                job = tmp_path / str(count) / f"{seed}_{top_k}"
                make_job(job, ["seed=0", f"model.tau={seed}", f"model.top_k={top_k}"], {"val/qabf": seed / 15})
    # curves over top_k: one per tau; those over tau are two, in colour
    for count, coloured in ((15, False), (3, True)):
        figure = sweep(tmp_path / str(count), tmp_path / "out" / str(count), {})[2]
        with Image.open(figure) as picture:
            curves = picture.convert("RGB").crop((picture.width // 2, 0, picture.width, picture.height))
        spread = ImageChops.difference(curves.getchannel("R"), curves.getchannel("B")).getextrema()[1]
        assert (spread > 50) == coloured


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ([], "no job folder in it"),
        (["6", "8"], "none of the 2 jobs has results yet: 6 .*failed; 8 .*never started"),
    ],
)
def test_folders_without_results_are_refused(multirun: Path, tmp_path: Path, keep: list[str], said: str) -> None:
    root = tmp_path / "part"
    root.mkdir()
    for name in keep:
        (multirun / name).rename(root / name)
    with pytest.raises(DataError, match=said):
        sweep(root, tmp_path / "out", {})
    with pytest.raises(DataError, match="no such folder"):
        sweep(tmp_path / "nowhere", tmp_path / "out", {})


def test_the_door_prints_the_files(door, multirun: Path, tmp_path: Path) -> None:
    done = door("analyze", "kind=sweep", f"dir={multirun}", f"run_dir={tmp_path / 'run'}")
    assert done.status == 0, done.err
    assert [line for line in done.out.splitlines() if line.startswith(str(tmp_path))] == [
        str(tmp_path / "run" / name) for name in ("sweep.csv", "sweep.md", "sweep.png")
    ]


def test_seeds_are_averaged_with_their_spread(tmp_path: Path) -> None:
    for number, (experts, seed, quality) in enumerate([(2, 0, 0.5), (2, 1, 0.7), (4, 0, 0.55), (4, 1, 0.56)]):
        given = [f"model.num_experts={experts}", f"seed={seed}"]
        make_job(tmp_path / "s" / str(number), given, {"val/qabf": quality, "val/ssim": 0.4})
    table, text, settings, figure = sweep(tmp_path / "s", tmp_path / "out", {})
    with settings.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model.num_experts"], row["jobs"]) for row in rows] == [("2", "2"), ("4", "2")]
    assert float(rows[0]["val/qabf"]) == pytest.approx(0.6)
    assert float(rows[0]["val/qabf std"]) == pytest.approx(0.02**0.5)
    assert "Best val/qabf: jobs 0, 1 (model.num_experts=2), 0.6000 ± 0.1414." in text.read_text()
    other = sweep(tmp_path / "s", tmp_path / "each", {"average": []})
    assert len(other) == 3  # a row per job and nothing else
    with Image.open(figure) as averaged, Image.open(other[-1]) as each:
        assert each.width == 2 * averaged.width  # the seed is no axis of its own


def test_a_row_is_of_the_best_epoch_or_of_the_last(tmp_path: Path) -> None:
    last = {"val/qabf": 0.4, "val/ssim": 0.9, "test/ssim": 0.7}
    best = {"epoch": 2, "step": 5, "metrics": {"val/qabf": 0.6, "val/ssim": 0.3}}
    for name, extra in (("0", {"best": best}), ("1", {})):
        make_job(tmp_path / name, [f"seed={name}"], last)
        results = {"value": 0.6, "monitor": "val/qabf", "epoch": 5, "metrics": last} | extra
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    # One without the best epoch's numbers has them in metrics.csv.
    (tmp_path / "1" / "metrics.csv").write_text("step,epoch,val/qabf,val/ssim\n1,0,0.5,0.1\n3,1,0.6,0.2\n5,2,0.6,0.8\n")
    first, second = read_jobs(tmp_path)
    assert (first.epoch, first.metrics) == (3, {"val/qabf": 0.6, "val/ssim": 0.3, "test/ssim": 0.7})
    assert (second.epoch, second.metrics) == (2, {"val/qabf": 0.6, "val/ssim": 0.2, "test/ssim": 0.7})
    first, second = read_jobs(tmp_path, "last")
    assert first.metrics == second.metrics == last and first.epoch == 5
    (tmp_path / "1" / "metrics.csv").unlink()  # nothing is known of the others of that epoch
    assert read_jobs(tmp_path)[1].metrics == {"val/qabf": 0.6, "test/ssim": 0.7}
    with pytest.raises(ConfigError, match=r"sweep\.epoch=first: expected best or last"):
        sweep(tmp_path, tmp_path / "out", {"epoch": "first"})
