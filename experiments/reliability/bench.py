"""What the campaign runs on: a small data set, a small model, and commands in forked processes that can be killed."""

import importlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import interpolate

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "infra" / "plugin"
"""The model from outside the package that the tests use: two convolutions, one of them frozen, noise in training."""


class Ended(NamedTuple):
    """How a command ended: its status (negative: killed by that signal), its output, seconds."""

    status: int
    out: str
    err: str
    seconds: float

    def one_line(self) -> bool:
        """Whether a failure was told in one clear line and no traceback."""
        lines = [line for line in self.err.strip().splitlines() if line.startswith("error: ")]
        return self.status > 0 and len(lines) >= 1 and "Traceback" not in self.err


def prepare() -> None:
    """Import what every command needs, once, and let the plugin be found."""
    sys.path[:0] = [str(PLUGIN), str(ROOT)]
    os.environ |= {"FUSION_TRUSTED_PACKAGES": "tinyfusion", "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), str(ROOT)])
    torch.set_num_threads(1)
    for name in ("train", "evaluate", "predict", "score", "data.__main__"):
        importlib.import_module(f"fusion.{name}")


def warm(work: Path) -> None:
    """Run the commands once in this process, so that its forks find everything imported and a kill meets work.

    Args:
        work: folder for what they write.
    """
    data = pairs(work / "data", train=2, val=1)
    a, b = data / "train" / "a", data / "train" / "b"
    suite = ["suite.metrics=[en,qabf,ssim]", "suite.name=x", "plot=null", "workers=0"]
    folders = [f"data.test.folders.{side}={data / 'train' / side}" for side in "ab"]
    for command, arguments in (
        ("train", training(data, "trainer.max_epochs=1", f"run_dir={work / 'run'}")),
        ("predict", ["model=average", f"a={a}", f"b={b}", f"out={work / 'out'}", "overwrite=false"]),
        ("score", [f"a={a}", f"b={b}", f"fused={a}", f"out={work / 's.csv'}", *suite]),
        ("evaluate", ["model=average", "baselines=[]", "data=folders", *folders, f"run_dir={work / 'evaluate'}"]),
        ("data.__main__", samples(work / "samples")),
    ):
        given = sys.argv
        sys.argv = [f"fusion/{command}.py", *arguments]
        try:
            importlib.import_module(f"fusion.{command}").main()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"{command} failed where nothing is broken") from stop
        finally:
            sys.argv = given


def samples(folder: Path) -> list[str]:
    """Arguments of `fusion.data` that make a few small sample pairs."""
    return [
        "action=prepare", "data=samples", "data.prepare.train_pairs=3", "data.prepare.test_pairs=2",
        "data.prepare.height=64", "data.prepare.width=64", f"paths.data_dir={folder}",
    ]  # fmt: skip


def pairs(folder: Path, train: int = 6, val: int = 4) -> Path:
    """A miniature data set of random smooth pictures: train/a, train/b, val/a, val/b."""
    from fusion.data.files.image import write_image

    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", train), ("val", val)):
        for side in ("a", "b"):
            for index in range(count):
                small = torch.rand(1, 3, 6, 6, generator=generator)
                picture = interpolate(small, (40, 44), mode="bicubic", align_corners=False)[0]
                write_image(folder / part / side / f"{index}.png", picture.clamp(0, 1))
    return folder


def training(data: Path, *more: str) -> list[str]:
    """Arguments of a training of three epochs of four steps, each with a validation."""
    return [
        "--config-dir", str(PLUGIN / "conf"), "model=tinyfusion", "data=miniature", f"paths.data_dir={data}", "logger=csv",
        "trainer=cpu", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "trainer.enable_model_summary=false",
        "scheduler.warmup_epochs=0.5", "evaluation.metrics=[psnr]", "monitor.metric=val/psnr", "callbacks.images=null",
        "data.num_workers=0", *more,
    ]  # fmt: skip


def run(
    command: str,
    arguments: list[str],
    log: Path,
    kill_after: float | None = None,
    number: int = signal.SIGKILL,
    change: Callable[[], Any] | None = None,
    limit: float = 600,
) -> Ended:
    """Run a command of the package in a fork of this process.

    Args:
        command: "train", "data.__main__", ...
        arguments: of the command line.
        log: path without ending; output goes to `.out` and `.err`.
        kill_after: seconds after which it gets the signal.
        number: the signal.
        change: called in the child first, to break something on purpose.
        limit: seconds after which it counts as hanging and is killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(command, arguments, out, err, change)
    told = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        passed = time.monotonic() - start
        if done:
            break
        if kill_after is not None and not told and passed >= kill_after:
            os.kill(child, number)
            told = True
        if passed > limit:
            os.killpg(child, signal.SIGKILL)
            limit = float("inf")
        time.sleep(0.005)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(code, out.read_text(errors="replace"), err.read_text(errors="replace"), time.monotonic() - start)


def _child(command: str, arguments: list[str], out: Path, err: Path, change: Callable[[], Any] | None) -> None:
    os.setsid()
    # The parent's helpers are no children of this process: its workers need others.
    for helper in (resource_tracker._resource_tracker, forkserver._forkserver):
        for name in set(vars(helper)) & {
            "_fd",
            "_pid",
            "_forkserver_address",
            "_forkserver_alive_fd",
            "_forkserver_pid",
        }:
            setattr(helper, name, None)
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    status = 1
    try:
        if change is not None:
            change()
        main = importlib.import_module(f"fusion.{command}").main
        sys.argv = [f"fusion/{command}.py", *arguments]
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def die_while_writing(nth: int) -> Callable[[], None]:
    """A change for `run`: SIGKILL when half of the nth checkpoint is on the disk."""

    def change() -> None:
        import io

        from fusion.training import checkpoint_io

        count, save = 0, torch.save

        def half(content: Any, path: Path) -> None:
            nonlocal count
            count += 1
            if count < nth:
                save(content, path)
                return
            buffer = io.BytesIO()
            save(content, buffer)
            path.write_bytes(buffer.getvalue()[: buffer.tell() // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        checkpoint_io.torch = type("torch", (), {"save": staticmethod(half)})  # type: ignore[assignment]

    return change


def leftovers(folder: Path) -> list[Path]:
    """Temporary files below a folder."""
    return [path for path in folder.rglob("*") if path.name.endswith(".part") or path.name.startswith(".fuse")]


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def moments(count: int, whole: float, seed: int = 0) -> list[float]:
    """Random moments of a run that takes `whole` seconds undisturbed."""
    generator = random.Random(seed)
    return [whole * (0.05 + 0.9 * generator.random()) for _ in range(count)]
