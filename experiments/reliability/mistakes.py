"""80 mistakes that people make in configurations, with the key that the one line has to name."""

from collections.abc import Iterator
from pathlib import Path

import bench

TRAIN = [
    "model.num_experts=four",
    "seed=abc",
    "seed=-1",
    "monitor.mode=up",
    "monitor.metric=7",
    "data.num_workers=x",
    "data.num_workers=-1",
    "data.batch_size=0",
    "data.batch_size=-2",
    "data.batch_size=two",
    "data.batch_size=1.5",
    "data.crop_size=100000",
    "data.crop_size=0",
    "data.crop_size=abc",
    "data.crop_size=[1,2,3]",
    "optimizer.lr=-1",
    "optimizer.lr=abc",
    "optimizer.lr=null",
    "optimizer.weight_decay=-1",
    "trainer.max_epochs=two",
    "trainer.max_epochs=-5",
    "trainer.max_steps=x",
    "trainer.accumulate_grad_batches=0",
    "trainer.devices=0",
    "trainer.precision=17",
    "trainer.gradient_clip_val=-1",
    "trainer.log_every_n_steps=-1",
    "trainer.accelerator=abacus",
    "evaluation.metrics=[nonsense]",
    "evaluation.metrics=psnr",
    "evaluation.convention=mine",
    "test_after_fit=perhaps",
    "compile=2",
    "channels_last=no_idea",
    "matmul_precision=higher",
    "resume=",
    "run_dir=",
    "callbacks.ema.decay=2",
    "callbacks.last.every_n_train_steps=-1",
    "callbacks.finite_guard.patience=x",
    "data.hflip=3",
    "data.max_pixels=0",
    "data.prefetch_factor=0",
    "scheduler.warmup_epochs=-1",
    "no.such.key=1",
    "data.bach_size=3",
    "model=nonsense",
    "resume=/nowhere",
    "data.epoch_by=moon",
    "model=null",
    "data=null",
    "evaluation=null",
    "evaluation.metrics=[]",
    "optimizer.lr=nan",
    "optimizer.betas=[0.9]",
    "optimizer._target_=torch.optim.Nope",
    "trainer.val_check_interval=0",
    "trainer.val_check_interval=-1",
    "trainer.max_time=soon",
    "trainer.devices=x",
    "trainer.devices=999",
    "imports=7",
    "callbacks.last.dirpath=",
    "seed=true",
    "data.batch_size=[2]",
    "run_dir=/proc/x",
    "run_dir=/dev/null",
    "run_dir=null",
    "paths.log_dir=",
    "hydra.run.dir=",
    "imports=[nothing_here]",
]
PREDICT = [
    "a=",
    "b=",
    "out=",
    "match_size=c",
    "overwrite=maybe",
    "num_workers=-1",
    "num_workers=abc",
    "control.alpha=abc",
    "control.nonsense=1",
    "task=",
    "task=nonsense",
    "format=xyz",
    "keep_gray=7",
    "allow_unpaired=x",
    "device=abacus",
    "data.max_pixels=-1",
    "ckpt_path=/nowhere.ckpt",
    "seed=x",
    "page=-1",
    "page=x",
    "quality=101",
    "out=/proc/x",
]
SCORE = [
    "workers=-3",
    "workers=abc",
    "out=",
    "a=",
    "precision=float1",
    "plot=bmp",
    "resume=x",
    "device=abacus",
    "suite.metrics=[nonsense]",
    "fused=/nowhere",
    "out=/proc/x.csv",
    "out=/dev/null",
    "suite.metrics=[]",
]
OTHERS = {
    "evaluate": ["part=nowhere", "baselines=average", "save_images=x"],
    "data.__main__": ["action=nonsense", "threads=0", "count=0"],
    "benchmark": ["size=[0,5]", "repeats=0", "batch=-1"],
}


def mistakes(data: Path, work: Path) -> Iterator[tuple[str, list[str], str]]:
    """Command, arguments, and what its one line has to contain.

    Args:
        data: folder as `bench.pairs` makes it.
        work: folder for what should never be written.
    """
    a, b = data / "train" / "a", data / "train" / "b"
    for mistake in TRAIN:
        yield "train", [*bench.training(data), f"run_dir={work / 'run'}", mistake], _key(mistake)
    for mistake in PREDICT:
        sources = ["model=tcmoa_tiny", f"a={a}", f"b={b}", f"out={work / 'out'}"]
        yield "predict", [*sources, mistake], _key(mistake)
    for mistake in SCORE:
        yield "score", [f"a={a}", f"b={b}", f"fused={a}", f"out={work / 's.csv'}", mistake], _key(mistake)
    for command, wrong in OTHERS.items():
        more = {"data.__main__": ["data=folders", f"data.test.folders.a={a}", f"data.test.folders.b={b}"]}.get(
            command, []
        )
        for mistake in wrong:
            yield command, [*more, "model=average" if command != "data.__main__" else "seed=0", mistake], _key(mistake)


def _key(mistake: str) -> str:
    """The key, or what a message calls it: its value where that is what is unknown."""
    key, value = mistake.split("=", 1)
    return {
        "evaluation.metrics": value.strip("[]"),
        "suite.metrics": value.strip("[]"),
        "model": value,
        "fused": value,
    }.get(key, key.rsplit(".", 1)[-1])
