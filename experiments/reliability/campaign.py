"""Break every command on purpose and count what is lost, executed or left unexplained.

    python experiments/reliability/campaign.py kills --count 20
    python experiments/reliability/campaign.py full files hostile mistakes signals points numbers
    python experiments/reliability/campaign.py all --count 3            # all of it, few kills
    python experiments/reliability/campaign.py table                    # the README's table

Rows are added to `results.csv`; the README shows the last of each. Needs root for `full` (it mounts a small tmpfs).
"""

import argparse
import csv
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import bench
import bombs
import files
import hostile
import mistakes
import points

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
COLUMNS = ["what", "tried", "lost", "executed", "unclear", "seconds", "commit", "machine"]


class Row(NamedTuple):
    """One line of the table: what was tried how often, and how often something was wrong."""

    what: str
    tried: int
    lost: int = 0
    executed: int = 0
    unclear: int = 0


def say(text: str) -> None:
    """To the terminal, at once."""
    print(text, flush=True)


# Kills ---------------------------------------------------------------------------------------------------------------


def finish(run: Path, arguments: list[str], log: Path) -> bench.Ended:
    """Go on as a user would: resume where there is a checkpoint, else the same command again."""
    going_on = (run / "checkpoints" / "last.ckpt").is_file()
    start = [*arguments[:2], f"resume={run}"] if going_on else [*arguments, f"run_dir={run}"]
    return bench.run("train", start, log)


def kills_train(work: Path, count: int, steps: tuple[int, ...] = (0, 2), only: str = "") -> Iterator[Row]:
    """SIGKILL at a random moment of a training; and while half of a checkpoint is written."""
    data = bench.pairs(work / "data")
    for every in steps:  # checkpoints at the ends of epochs, and within them
        arguments = bench.training(data, f"callbacks.last.every_n_train_steps={every}")
        undisturbed = bench.run("train", [*arguments, f"run_dir={work / f'whole{every}'}"], work / "whole")
        assert undisturbed.status == 0, undisturbed.err
        expected = points.left_by(work / f"whole{every}")
        changes: list[tuple[str, list[tuple[float | None, Callable[[], Any] | None]]]] = [
            ("at a random moment", [(m, None) for m in bench.moments(count, undisturbed.seconds, every)]),
            ("while a checkpoint is written", [(None, bench.die_while_writing(n % 8 + 1)) for n in range(count)]),
        ]
        for what, kills in changes:
            if only not in what:
                continue
            lost = 0
            for number, (moment, change) in enumerate(kills):
                run = bench.fresh(work / "run")
                bench.run("train", [*arguments, f"run_dir={run}"], work / "log", kill_after=moment, change=change)
                ended = finish(run, arguments, work / "log")
                wrong = points.differing(points.left_by(run), expected) if ended.status == 0 else [ended.err[-300:]]
                wrong += [str(path) for path in bench.leftovers(run)]
                if wrong:
                    lost += 1
                    say(f"  train, every {every}, {what}, kill {number}: {wrong}")
            yield Row(
                f"train killed {what}, checkpoint every {every or 'epoch'}{' steps' if every else ''}", count, lost
            )


def kills_sweep(work: Path, count: int) -> Iterator[Row]:
    """SIGKILL at a random moment of a sweep of two jobs, and the same command again."""
    data = bench.pairs(work / "data")
    arguments = ["-m", *bench.training(data), "seed=1,2"]
    undisturbed = bench.run("train", [*arguments, f"hydra.sweep.dir={work / 'whole'}"], work / "log")
    assert undisturbed.status == 0, undisturbed.err
    expected = [points.left_by(work / "whole" / job) for job in "01"]
    lost = 0
    for moment in bench.moments(count, undisturbed.seconds, 7):
        sweep = bench.fresh(work / "sweep")
        again = [*arguments, f"hydra.sweep.dir={sweep}"]
        bench.run("train", again, work / "log", kill_after=moment)
        ended = bench.run("train", again, work / "log")
        wrong = [ended.err[-300:]] if ended.status else []
        wrong = wrong or [
            d
            for job, known in zip("01", expected, strict=True)
            for d in points.differing(points.left_by(sweep / job), known)
        ]
        if wrong:
            lost += 1
            say(f"  sweep killed after {moment:.1f} s: {wrong}")
    yield Row("sweep killed, the same command again", count, lost)


def _tree(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in skip)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def kills_others(work: Path, count: int, only: str = "") -> Iterator[Row]:
    """SIGKILL at a random moment of predict, score and prepare, and the same command again."""
    data = bench.pairs(work / "data", train=12)
    a, b = data / "train" / "a", data / "train" / "b"
    fused = bench.fresh(work / "fused")
    for path in a.iterdir():
        shutil.copy(path, fused / path.name)
    commands = {
        "predict": ("predict", ["model=average", f"a={a}", f"b={b}", "overwrite=false"], "out={}"),
        "score": (
            "score",
            [f"a={a}", f"b={b}", f"fused={fused}", "suite.metrics=[en,qabf,ssim]", "suite.name=x", "plot=null", "workers=1"],
            "out={}/scores.csv",
        ),
        "prepare": (
            "data.__main__",
            bench.samples(Path())[:-1],
            "paths.data_dir={}",
        ),
    }  # fmt: skip
    for name, (command, arguments, place) in commands.items():
        if only not in name:
            continue
        whole = bench.fresh(work / "whole")
        undisturbed = bench.run(command, [*arguments, place.format(whole)], work / "log")
        assert undisturbed.status == 0, undisturbed.err
        expected, lost = _tree(whole), 0
        for moment in bench.moments(count, undisturbed.seconds, 3):
            out = bench.fresh(work / "out")
            bench.run(command, [*arguments, place.format(out)], work / "log", kill_after=moment)
            ended = bench.run(command, [*arguments, place.format(out)], work / "log")
            ours = _tree(out)
            wrong = [ended.err[-300:]] if ended.status else [key for key in expected if ours.get(key) != expected[key]]
            wrong += sorted(ours.keys() - expected.keys())
            if wrong:
                lost += 1
                say(f"  {name} killed after {moment:.2f} s: {wrong[:5]}")
        yield Row(f"{name} killed, the same command again", count, lost)


def kills(work: Path, count: int) -> Iterator[Row]:
    """Kills of every command."""
    for part in (kills_train, kills_sweep, kills_others):
        yield from part(bench.fresh(work / part.__name__), count)


# A full disk ---------------------------------------------------------------------------------------------------------


def full(work: Path, count: int) -> Iterator[Row]:
    """Every command on a disk that fills up: one line, and what was there before is still sound."""
    import torch

    data = bench.pairs(work / "data", train=12)
    a, b = data / "train" / "a", data / "train" / "b"
    disk = work / "disk"
    disk.mkdir()
    suite = ["suite.metrics=[en,qabf,ssim]", "suite.name=x", "workers=1"]
    evaluate = ["model=average", "baselines=[]", "data=folders", f"data.test.folders.a={a}", f"data.test.folders.b={b}"]
    samples = bench.samples(Path())[:-1]
    commands = {
        "train": ("train", bench.training(data, f"run_dir={disk}/run")),
        "sweep": ("train", ["-m", *bench.training(data), "seed=1,2", f"hydra.sweep.dir={disk}/sweep"]),
        "predict": ("predict", ["model=average", f"a={a}", f"b={b}", f"out={disk}/out"]),
        "score": ("score", [f"a={a}", f"b={b}", f"fused={a}", f"out={disk}/s.csv", *suite]),
        "evaluate": ("evaluate", [*evaluate, f"run_dir={disk}/run"]),
        "prepare": ("data.__main__", [*samples, f"paths.data_dir={disk}/data"]),
    }
    for name, (command, arguments) in commands.items():
        tried = lost = unclear = 0
        for size in ("0", "4k", "24k", "60k"):
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={'4k' if size == '0' else size}", "none", disk], check=True
            )
            try:
                if size == "0":
                    (disk / "filler").write_bytes(bytes(4096))
                ended = bench.run(command, arguments, work / "log")
                if ended.status == 0:
                    continue  # it was large enough
                tried += 1
                if not ended.one_line():
                    unclear += 1
                    say(f"  {name}, {size}: status {ended.status}: {ended.err[-400:]}")
                for checkpoint in disk.rglob("*.ckpt"):
                    try:
                        torch.load(checkpoint, weights_only=True)
                    except Exception as error:
                        lost += 1
                        say(f"  {name}, {size}: {checkpoint}: {error}")
                lost += len(bench.leftovers(disk))
            finally:
                subprocess.run(["umount", disk], check=True)
        yield Row(f"{name} on a full disk", tried, lost, unclear=unclear)


# Hostile files -------------------------------------------------------------------------------------------------------


def hostile_pictures(work: Path, count: int) -> Iterator[Row]:
    """150 files as sources and as fused images: the sound ones beside them are done, the others named."""
    a, b, fused = (bench.fresh(work / name) for name in ("a", "b", "fused"))
    made = list(files.hostile_files(a))
    for index in range(3):
        (a / f"sound{index}.png").write_bytes(files.encode("png", index))
    for path in list(a.iterdir()):
        (b / f"{path.stem}.png").write_bytes(files.encode("png", 1))
        (fused / f"{path.stem}.png").write_bytes(files.encode("png", 2))
    surely = {path.name for path, refused in made if refused}

    ended = bench.run("predict", ["model=average", f"a={a}", f"b={b}", f"out={work / 'out'}"], work / "predict")
    done = {path.stem for path in (work / "out").iterdir()}
    lost = sum(f"sound{index}" not in done for index in range(3))
    unclear = int("Traceback" in ended.err or ended.status != 1) + sum(name not in ended.err for name in surely)
    yield Row("predict: 150 hostile files beside sound ones", len(made), lost, unclear=unclear)

    suite = ["suite.metrics=[en,mi]", "suite.name=x", "plot=null", "workers=2"]
    ended = bench.run("score", [f"a={a}", f"b={b}", f"fused={fused}", f"out={work / 's.csv'}", *suite], work / "score")
    scored = (work / "s.csv").read_text() if (work / "s.csv").is_file() else ""
    lost = sum(f"sound{index}" not in scored for index in range(3))
    yield Row("score: the same", len(made), lost, unclear=int("Traceback" in ended.err or ended.status != 1))

    yield from _bombs(work)

    folders = ["data=folders", f"data.test.folders.a={a}", f"data.test.folders.b={b}"]
    ended = bench.run("data.__main__", ["action=verify", *folders], work / "verify")
    named = sum(name not in ended.out + ended.err for name in surely)
    yield Row("data verify: the same", len(made), 0, unclear=named + int(not ended.one_line()))

    unclear = 0
    for path, refused in made:
        if not refused:
            continue
        one = bench.pairs(bench.fresh(work / "one"), train=2, val=1)
        for side in "ab":
            (one / "train" / side / "0.png").unlink()
            (one / "train" / side / f"bad{path.suffix}").write_bytes(path.read_bytes())
        if unclear > 3 or (count < 20 and made.index((path, refused)) % 20):
            continue  # a training each: a few where few kills are asked for
        ended = bench.run("train", bench.training(one, f"run_dir={work / 'run'}", "data.crop_size=8"), work / "train")
        unclear += int(not ended.one_line() or "bad" not in ended.err)
        shutil.rmtree(work / "run", ignore_errors=True)
    tried = len(surely) if count >= 20 else len([m for i, m in enumerate(made) if m[1] and i % 20 == 0])
    yield Row("train: those that are surely damaged, one training each", tried, unclear=unclear)


def _bombs(work: Path) -> Iterator[Row]:
    """Pictures that grow, lie or would start something, beside sound ones; the process may take 3 GiB."""
    import resource

    from fusion.data.files.formats import is_readable, stem_of

    a, b, marker = bench.fresh(work / "bombs_a"), bench.fresh(work / "bombs_b"), work / "bombs_marker"
    made = bombs.pictures(a, marker)
    for index in range(3):
        (a / f"sound{index}.png").write_bytes(files.encode("png", index))
    for path in filter(is_readable, a.iterdir()):
        (b / f"{stem_of(path)}.png").write_bytes(files.encode("png", 1))
    arguments = ["model=average", f"a={a}", f"b={b}", f"out={work / 'bombs_out'}", "data.max_pixels=4000000"]
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (3 << 30, 3 << 30))
    ended = bench.run("predict", arguments, work / "bombs", change=limit)
    done = {path.stem for path in (work / "bombs_out").iterdir()} if (work / "bombs_out").is_dir() else set()
    lost = sum(f"sound{index}" not in done for index in range(3))
    names = [" ".join(path.name.split()) for path in made if is_readable(path)]
    unclear = int("Traceback" in ended.err or ended.status != 1) + sum(name not in ended.err for name in names)
    if unclear:
        say(f"  bombs: status {ended.status}, not named: {[name for name in names if name not in ended.err]}")
    yield Row("predict: bombs and lying headers beside sound ones", len(made), lost, int(marker.exists()), unclear)


def hostile_records(work: Path, count: int) -> Iterator[Row]:
    """Checkpoints through predict and load_model, run folders through resume=: nothing runs, each is told in one line."""
    import torch

    marker = work / "executed"
    data = bench.pairs(work / "data", train=1, val=1)
    sources = [f"a={data / 'train' / 'a'}", f"b={data / 'train' / 'b'}", f"out={work / 'out'}"]
    tried = executed = unclear = 0
    for path in hostile.checkpoints(work / "files", marker):
        tried += 1
        ended = bench.run("predict", [f"ckpt_path={path}", *sources], work / "log")
        executed += marker.exists()
        marker.unlink(missing_ok=True)
        if not ended.one_line():
            unclear += 1
            say(f"  {path.name}: status {ended.status}: {ended.err[-300:]}")
    yield Row("predict: hostile checkpoints", tried, executed=executed, unclear=unclear)
    sound = work / "sound.ckpt"
    torch.save({"state_dict": {}}, sound)
    tried = executed = unclear = 0
    for run in hostile.run_folders(work / "runs", marker, sound):
        tried += 1
        ended = bench.run("train", [f"resume={run}"], work / "log")
        executed += marker.exists()
        marker.unlink(missing_ok=True)
        unclear += int(not ended.one_line())
    yield Row("train: resume= of hostile run folders", tried, executed=executed, unclear=unclear)


# Mistakes ------------------------------------------------------------------------------------------------------------


def wrong_values(work: Path, count: int) -> Iterator[Row]:
    """Configuration mistakes of every command, each refused in one line that names the key, before anything is made."""
    data = bench.pairs(work / "data", train=2, val=1)
    tried = unclear = 0
    for command, arguments, key in mistakes.mistakes(data, work):
        tried += 1
        ended = bench.run(command, arguments, work / "log", limit=120)
        if not ended.one_line() or key not in ended.err:
            unclear += 1
            say(f"  {command} {' '.join(arguments[-2:])}: status {ended.status}: {ended.err[-300:]}")
    yield Row("configuration mistakes", tried, unclear=unclear)


# Signals -------------------------------------------------------------------------------------------------------------


def signals(work: Path, count: int) -> Iterator[Row]:
    """SIGTERM, SIGINT, SIGUSR1 at one process and at the launcher of two, and a killed rank; then the run goes on."""
    data = bench.pairs(work / "data")
    arguments = bench.training(data)
    whole = bench.run("train", [*arguments, f"run_dir={work / 'whole'}"], work / "log")
    expected = points.left_by(work / "whole")
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        lost = unclear = 0
        for moment in bench.moments(count, whole.seconds, 5):
            run = bench.fresh(work / "run")
            start = [*arguments, f"run_dir={run}"]
            ended = bench.run("train", start, work / "log", kill_after=moment, number=getattr(signal, name))
            unclear += int("Traceback" in ended.err)
            left = run / "checkpoints" / "exception.ckpt"
            going_on = [*arguments[:2], f"resume={left}"] if left.is_file() else None
            if ended.status:
                ended = bench.run("train", going_on, work / "log") if going_on else finish(run, arguments, work / "log")
            wrong = points.differing(points.left_by(run), expected) if ended.status == 0 else [ended.err[-300:]]
            if wrong:
                lost += 1
                say(f"  {name} after {moment:.1f} s: {wrong}")
        yield Row(f"train: {name}, then resumed", count, lost, unclear=unclear)
    yield from _ranks(work, data)


def every_point(work: Path, count: int) -> Iterator[Row]:
    """Each signal at chosen calls and returns of the functions that train, log and save, five times `count` of them."""
    config = points.configuration(bench.pairs(work / "data", train=2, val=1))
    calls = points.points(config, work / "whole", work / "log")
    expected, chosen = points.left_by(work / "whole"), points.distinct(calls)
    step = max(1, len(chosen) // (5 * count))
    for offset, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)):
        tried = lost = unclear = 0
        for point in chosen[offset * step // 4 :: step]:
            run = bench.fresh(work / "run")
            status = points.stop_at(point, number, config, run, work / "log")
            unclear += status == 1
            if status:
                status = points.go_on(config, run, work / "log")
            wrong = [f"status {status}"] if status else points.differing(points.left_by(run), expected)
            tried, lost = tried + 1, lost + bool(wrong)
            if wrong:
                say(f"  {number.name} at {point}: {wrong}")
        yield Row(f"train: {number.name} at a chosen call, then resumed", tried, lost, unclear=unclear)


def _ranks(work: Path, data: Path) -> Iterator[Row]:
    """Two processes through torchrun, as a command of its own."""
    arguments = bench.training(data, "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=40")
    for what in ("a rank killed", "SIGTERM at the launcher", "SIGINT at the launcher"):
        run = bench.fresh(work / "ranks")
        command = [sys.executable, "-m", "fusion.train", *arguments, f"run_dir={run}"]
        with (work / "ranks.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 900
        while not (run / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < end:
            time.sleep(0.2)
        if what == "a rank killed":
            ranks = subprocess.run(
                ["pgrep", "-g", str(process.pid), "-f", "fusion.train"], capture_output=True, text=True
            )
            os.kill(int(ranks.stdout.split()[-1]), signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM if "SIGTERM" in what else signal.SIGINT)
        try:
            status = process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = 0
        text = (work / "ranks.log").read_text()
        import torch

        sound = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0
        say(f"  {what}: status {status}")
        yield Row(f"train with two processes: {what}", 1, int(not sound), unclear=int(status == 0 or ("error: " not in text[-2000:]
                  and "continue with" not in text)))  # fmt: skip


# Numbers -------------------------------------------------------------------------------------------------------------


def numbers(work: Path, count: int) -> Iterator[Row]:
    """Pixels that are no numbers, and a learning rate that diverges: told with the pair or the step, nothing saved over."""
    import numpy as np
    from PIL import Image

    data = bench.pairs(work / "data", train=2, val=1)
    values = np.full((40, 44), np.nan, np.float32)
    Image.fromarray(values).save(data / "train" / "a" / "0.tif")
    (data / "train" / "a" / "0.png").unlink()
    ended = bench.run("train", bench.training(data, f"run_dir={work / 'nan'}"), work / "log")
    yield Row("train: NaN pixels", 1, unclear=int(not ended.one_line() or "0.tif" not in ended.err))
    data = bench.pairs(work / "data2")
    wild = bench.training(
        data, "optimizer.lr=1e30", "scheduler=constant", "~scheduler.warmup_epochs", f"run_dir={work / 'lr'}"
    )
    ended = bench.run("train", [a for a in wild if not a.startswith(("scheduler.warmup", "~"))], work / "log")
    yield Row("train: a learning rate that diverges", 1, unclear=int(not ended.one_line()))


PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "kills": kills,
    "full": full,
    "files": hostile_pictures,
    "hostile": hostile_records,
    "mistakes": wrong_values,
    "signals": signals,
    "points": every_point,
    "numbers": numbers,
}
PIECES: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "kills_train_epoch": lambda work, count: kills_train(work, count, (0,)),
    "kills_train_steps": lambda work, count: kills_train(work, count, (2,)),
    "kills_writing_epoch": lambda work, count: kills_train(work, count, (0,), "written"),
    "kills_writing_steps": lambda work, count: kills_train(work, count, (2,), "written"),
    "kills_sweep": kills_sweep,
    "kills_prepare": lambda work, count: kills_others(work, count, "prepare"),
    "kills_others": kills_others,
    "ranks": lambda work, count: _ranks(work, bench.pairs(work / "data")),
}
"""Pieces of the parts, to run side by side."""


def table(results: Path) -> str:
    """The last row of each line as Markdown, with the sums."""
    with results.open(newline="") as file:
        rows = list({row["what"]: row for row in csv.DictReader(file)}.values())
    lines = ["| what | tried | lost | executed | unclear | commit |", "|---|--:|--:|--:|--:|---|"]
    numbers_of = ("tried", "lost", "executed", "unclear")
    lines += [f"| {r['what']} | {' | '.join(r[n] for n in numbers_of)} | {r['commit']} |" for r in rows]
    sums = [str(sum(int(row[name]) for row in rows)) for name in numbers_of]
    return "\n".join([*lines, f"| **all** | {' | '.join(f'**{number}**' for number in sums)} | |"])


def main() -> None:
    """Run the parts that are named and write their rows down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, *PIECES, "all", "table"])
    parser.add_argument("--count", type=int, default=20, help="kills per command")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.parts == ["table"]:
        print(table(given.results))
        return
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background commands ignore it, and their children
    bench.prepare()
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        bench.warm(Path(folder))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.system()}"
    for name in PARTS if "all" in given.parts else given.parts:
        with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
            start = time.monotonic()
            for row in (PARTS | PIECES)[name](Path(folder), given.count):
                seconds = round(time.monotonic() - start, 1)
                start = time.monotonic()
                say(f"{row.what}: {row.tried} tried, {row.lost} lost, {row.executed} executed, {row.unclear} unclear")
                new = not given.results.is_file()
                with given.results.open("a", newline="") as file:
                    writer = csv.writer(file)
                    if new:
                        writer.writerow(COLUMNS)
                    writer.writerow([*row, seconds, commit, machine])


if __name__ == "__main__":
    main()
