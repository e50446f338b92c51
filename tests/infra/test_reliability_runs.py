"""Nothing of a run is lost or falsified: claims, records, resuming, full disks, kills while a checkpoint is written."""

import csv
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fusion.errors import ConfigError, FusionError
from fusion.files import _HOST, atomic
from fusion.job.resuming import given_overrides
from fusion.job.runs import RunFolder
from fusion.scoring.journal import Journal
from fusion.training import checkpoint_io
from fusion.training.callbacks import BestCheckpoint
from fusion.training.checkpoint_io import AtomicCheckpointIO, tensor_bytes

Door = Callable[..., Any]


def record(folder: Path) -> dict[str, Any]:
    """The run's run.json."""
    return json.loads((folder / "run.json").read_text())


def _claim(folder: Path, barrier: Barrier, answers: Any, seed: int) -> None:
    barrier.wait()
    try:
        RunFolder(folder, {"name": "x"}, False, [f"seed={seed}"])
        answers.put("accepted")
    except ConfigError:
        answers.put("refused")


def test_of_two_runs_that_reach_a_folder_together_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(5):
        barrier, answers = context.Barrier(2), context.Queue()
        arguments = [(tmp_path / str(number), barrier, answers, seed) for seed in (1, 2)]
        processes = [context.Process(target=_claim, args=given) for given in arguments]
        for process in processes:
            process.start()
        assert sorted(answers.get(timeout=60) for _ in processes) == ["accepted", "refused"]
        for process in processes:
            process.join()


def test_a_folder_has_one_owner_at_a_time_and_its_record_only_grows(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, {"name": "x", "lr": 1}, False, ["lr=1"])
    with pytest.raises(ConfigError, match="another process works in this run folder"):
        RunFolder(tmp_path, {"name": "x"}, True, ["lr=1"])
    first.accept()
    first.finish("interrupted")
    again = RunFolder(tmp_path, {"name": "x", "lr": 1}, False, ["lr=1"])  # no checkpoint: it simply starts
    again.accept()
    again.write_results({"value": 1.0})
    again.finish("finished")
    with pytest.raises(ConfigError, match="already holds a run: continue it with resume="):
        RunFolder(tmp_path, {"name": "x"}, False, ["lr=1"])
    refused = RunFolder(tmp_path, {"name": "x", "lr": 9}, True, ["lr=9"])
    refused.finish("refused")
    assert record(tmp_path)["overrides"] == ["lr=1"] and "lr: 1" in (tmp_path / "config.yaml").read_text()
    changed = RunFolder(tmp_path, {"name": "x", "lr": 2}, True, ["lr=2"])
    changed.accept()
    changed.finish("finished")
    assert record(tmp_path)["overrides"] == ["lr=2"] and "lr: 2" in (tmp_path / "config.yaml").read_text()
    assert [part["status"] for part in record(tmp_path)["parts"]] == ["interrupted", "finished", "refused", "finished"]
    assert [part["overrides"] for part in record(tmp_path)["parts"]] == [["lr=1"], ["lr=1"], ["lr=9"], ["lr=2"]]
    assert given_overrides() == []


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    door: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    RunFolder(folder, {"name": "x"}, False, tiny_overrides[2:])._lock.close()  # as a kill leaves it
    told = door("train", *tiny_overrides[:2], f"resume={folder}")
    assert told.status == 2 and f"start it again with run_dir={folder}" in told.err
    done = door("train", *tiny_overrides, f"run_dir={folder}")
    assert done.status == 0, done.err
    assert [part["status"] for part in record(folder)["parts"]] == ["starting", "finished"]


def test_resuming_keeps_results_overrides_and_the_best(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert door("train", *tiny_overrides, f"run_dir={folder}").status == 0
    results = (folder / "results.json").read_text()
    config_dir = tiny_overrides[:2]
    assert json.loads(results)["metrics"]

    done = door("train", *config_dir, f"resume={folder}")
    assert done.status == 0 and "nothing left to do" in done.out, done.err
    assert (folder / "results.json").read_text() == results

    refused = door("train", *config_dir, f"resume={folder}", "data.batch_size=1")
    assert refused.status == 2
    refused = door("train", *config_dir, f"resume={folder}", "trainer.max_epochs=1")
    assert "data.batch_size=1" not in record(folder)["overrides"]
    assert "trainer.max_epochs=2" in record(folder)["overrides"]

    moved = tmp_path / "moved"  # the best of a copied run is beaten, not forgotten
    shutil.copytree(folder, moved)
    best = torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)
    key = next(name for name in best["callbacks"] if name.startswith("ModelCheckpoint"))
    last = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)
    last["callbacks"][key]["best_model_score"] = torch.tensor(1e6)
    last["callbacks"][key]["kth_value"] = torch.tensor(1e6)
    last["callbacks"][key]["best_k_models"] = dict.fromkeys(last["callbacks"][key]["best_k_models"], torch.tensor(1e6))
    torch.save(last, moved / "checkpoints" / "last.ckpt")
    done = door("train", *config_dir, f"resume={moved}", "trainer.max_epochs=3")
    assert done.status == 0, done.err
    assert torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == best["epoch"]
    assert json.loads((moved / "results.json").read_text())["best_checkpoint"] == str(
        moved / "checkpoints" / "best.ckpt"
    )


def test_the_best_checkpoint_never_follows_foreign_paths(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("x")
    best = BestCheckpoint(dirpath=str(tmp_path / "run"), filename="best", monitor="x")
    state = {**best.state_dict(), "best_model_path": str(precious), "kth_best_model_path": str(precious),
             "best_k_models": {str(precious): torch.tensor(1.0)}, "best_model_score": torch.tensor(1.0)}  # fmt: skip
    best.load_state_dict(state)
    assert best.best_model_path == "" and best.best_k_models == {} and best.best_model_score is None


def test_evaluating_twice_into_one_folder_is_refused(door: Door, miniature: Path, tmp_path: Path) -> None:
    val = [f"data.test.folders.{side}={miniature / 'val' / side}" for side in "ab"]
    common = ["model=average", "baselines=[]", "data=folders", *val, "evaluation.metrics=[psnr]", "contact_sheet=false"]
    assert door("evaluate", *common, f"run_dir={tmp_path}", "seed=1").status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    again = door("evaluate", *common, f"run_dir={tmp_path}", "seed=2")
    assert again.status == 2 and "already holds a run: choose another run_dir" in again.err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} and before


# Checkpoints ---------------------------------------------------------------------------------------------------------


def test_checkpoints_are_written_beside_their_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.ones(3))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("how", ["known before", "while writing", "as PyTorch says it"])
def test_a_full_disk_leaves_the_checkpoint_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"x": torch.ones(3)}, path)

    def full(content: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise (
            OSError(28, "No space left on device")
            if how == "while writing"
            else RuntimeError("PytorchStreamWriter failed")
        )

    if how == "known before":
        monkeypatch.setattr(checkpoint_io.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    else:
        monkeypatch.setattr(checkpoint_io.torch, "save", full)
    with pytest.raises(
        FusionError, match=r"last\.ckpt: no space for the checkpoint .*; the checkpoint before it is still there"
    ):
        writer.save_checkpoint({"x": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.ones(3))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_shared_memory_counts_once() -> None:
    values = torch.zeros(1000)
    assert tensor_bytes({"a": values, "b": [values[:10], (values,)], "c": "text"}) == 4000


def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="is no regular file"), atomic(pipe) as temporary:
        temporary.write_text("x")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def _die_while_writing(path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_text("whole")
    process = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(path,))
    process.start()
    process.join()
    assert path.read_text() == "whole" and len(list(tmp_path.iterdir())) == 2
    mine = tmp_path / f".other.{_HOST}-{os.getpid()}-1.part"
    elsewhere = tmp_path / ".other.00000000-1-1.part"
    mine.touch()
    elsewhere.touch()
    with atomic(tmp_path / "y.png") as temporary:
        temporary.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([mine.name, elsewhere.name, "x.png", "y.png"])
    with atomic(tmp_path / ("n" * 250 + ".txt")) as temporary:  # as long as file systems allow
        temporary.write_text("long")


@pytest.mark.parametrize(
    "tail", ['{"method": "m", "ima', '{"method": "m"}\n', "[1]\n", "\udcff\n", '{"method": "m", "image": "y"']
)
def test_a_torn_journal_goes_on(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "scores.csv.partial"
    journal = Journal(path, {"suite": "x"}, resume=True)
    journal.add("m", "x", "stamp", {"en": 1.0})
    journal.close(finished=False)
    with path.open("ab") as file:
        file.write(tail.encode("utf-8", "surrogateescape"))
    again = Journal(path, {"suite": "x"}, resume=True)
    assert again.known("m", "x", "stamp") == {"en": 1.0} and again.known("m", "y", "stamp") is None
    again.add("m", "y", "stamp", {"en": 2.0})
    again.close(finished=False)
    assert all(json.loads(line) for line in path.read_text().splitlines())


def _train_in_a_fork(arguments: list[str]) -> int:
    """Status of a training in a child of this process: nothing is imported again."""
    child = os.fork()
    if child == 0:
        try:
            sys.argv = ["fusion/train.py", *arguments]
            importlib.import_module("fusion.train").main()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("every", [0, 1])
def test_killed_in_a_validation_loses_no_row_and_no_validation(
    door: Door, tiny_overrides: list[str], tmp_path: Path, every: int
) -> None:
    def rows(folder: Path) -> list[dict[str, str]]:
        with (folder / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = [*tiny_overrides, f"callbacks.last.every_n_train_steps={every}", "callbacks.images=null"]
    assert door("train", *arguments, f"run_dir={whole}").status == 0
    kill = f"+callbacks.kill={{_target_: tinyfusion.KillInValidation, epoch: 1, marker: {tmp_path / 'once'}}}"
    assert os.WTERMSIG(_train_in_a_fork([*arguments, kill, f"run_dir={killed}"])) == signal.SIGKILL
    done = door("train", *tiny_overrides[:2], f"resume={killed}")
    assert done.status == 0, done.err
    assert rows(killed) == rows(whole)
    ours, theirs = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["loops"] for f in (killed, whole))
    for part in ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"):
        assert ours["fit_loop"][part]["total"] == theirs["fit_loop"][part]["total"], part
