"""FSDP on two processes: trains, stops, goes on and checkpoints as DDP does."""

import csv
import importlib
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Door = Callable[..., Any]
SHARDED = [
    "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true",
    "trainer.strategy.process_group_backend=gloo", "trainer.log_every_n_steps=1",
]  # fmt: skip


def train_on_two(arguments: list[str]) -> list[int]:
    """Exit status of a training's two ranks, which are children of this process: nothing is imported again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child:
            children.append(child)
            continue
        status = 1
        try:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "NODE_RANK": "0"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            sys.argv = ["fusion/train.py", *arguments]
            importlib.import_module("fusion.train").main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            os._exit(status)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def rows(folder: Path) -> list[dict[str, float]]:
    """Losses and scores by step."""
    with (folder / "metrics.csv").open() as file:
        kept = ("step", "train/", "val/", "norm/gradient")
        return [{k: float(v) for k, v in row.items() if v and k.startswith(kept)} for row in csv.DictReader(file)]


def test_stopped_and_continued_it_equals_ddp(
    plugin: None,
    undo_globals: None,
    tiny_overrides: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    base = [line for line in tiny_overrides if not line.startswith("trainer=")] + ["callbacks.ema=null"]
    whole, sharded = tmp_path / "ddp", tmp_path / "fsdp"
    assert train_on_two([*base, "trainer=ddp_cpu", "trainer.log_every_n_steps=1", f"run_dir={whole}"]) == [0, 0]
    # Five validation pairs on two ranks: one of them is done while the other still fuses.
    stop = (
        f"+callbacks.stop={{_target_: tinyfusion.KillAt, step: 5, marker: {tmp_path / 'once'}, signal_name: SIGTERM}}"
    )
    assert train_on_two([*base, *SHARDED, stop, f"run_dir={sharded}"]) == [143, 143]
    kept = sharded / "checkpoints" / "exception.ckpt"
    assert torch.load(kept, weights_only=True)["global_step"] == 5
    assert "(TinyFusion): 0.4 k parameters trained" in capfd.readouterr().out  # all of them, and not FSDP's class
    assert train_on_two([*base, *SHARDED, f"resume={kept}"]) == [0, 0]
    assert json.loads((sharded / "results.json").read_text())["global_step"] == 8
    ours, theirs = rows(sharded), rows(whole)
    assert len(ours) == len(theirs) and all("val/psnr" in row for row in (ours[-1], theirs[-1]))
    for here, there in zip(ours, theirs, strict=True):
        for key in here.keys() & there.keys():
            assert here[key] == pytest.approx(there[key], rel=1e-4, abs=1e-6), key
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (sharded, whole)
    ]
    assert states[0].keys() == states[1].keys()  # whole weights under their own names: they load without FSDP
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6)


def test_an_average_of_the_weights_is_refused(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    alone = [line for line in tiny_overrides if not line.startswith("trainer=")]
    given = [*SHARDED, "trainer.devices=1", "callbacks.ema.decay=0.9", f"run_dir={tmp_path}"]
    done = door("train", *alone, *given)
    assert done.status == 2 and "add callbacks.ema=null" in done.err
