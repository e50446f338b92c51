"""Two processes train as one does on the batches of both."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# Attention from boxes: detectors draw their samples at random, and each rank draws its own. SGD: Adam divides by the size of a
# gradient, so that of one near zero it would be the rounding that is compared.
OPTIONS = [
    "experiment=moe_fusion", "model/attention=boxes", "model.local.grid=[4,6]", "model.decoder.grid=[2,3]",
    "model.decoder.widths=[16,8,8]", "model.network.channels=8", "data.train.m3fd.resize=[64,96]",
    "data.train.m3fd.skip=2", "data.val.pairs.resize=[64,96]", "data.val.pairs.limit=2", "data.num_workers=0",
    "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "optimizer=sgd", "optimizer.lr=1e-3", "logger=csv",
    "callbacks.images=null",
]  # fmt: skip


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_processes_equal_one_with_the_double_batch(door, m3fd, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    quiet = [*OPTIONS, "model.router.noise=false", f"paths.data_dir={m3fd}"]  # noise differs between ranks by intention
    status, said = door("train", *quiet, "data.batch_size=4", "trainer=cpu", f"run_dir={one}")
    assert status == 0, said
    done = subprocess.run(
        [sys.executable, "-m", "fusion.train", *quiet, "data.batch_size=2", "trainer=ddp_cpu", f"run_dir={two}"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "on 2 processes on the CPU" in done.stdout + done.stderr

    expected, got = weights(one), weights(two)
    assert expected.keys() == got.keys() and any(value.any() for key, value in got.items() if "w_gate" in key)
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=1e-6)
    first, second = rows(one), rows(two)
    assert len(first) == len(second) and sum(bool(row["train/vif/load"]) for row in first) == 6
    for ours, theirs in zip(first, second, strict=True):
        for key in (key for key in ours if ours[key]):
            assert float(theirs[key]) == pytest.approx(float(ours[key]), rel=1e-4, abs=1e-6), key
