"""Types and ranges of the keys that every command reads, checked before anything is built.

What a `_target_` takes is checked by its annotations (`fusion.job.config.check`); here is what annotations do not say:
ranges, choices, and the keys of the commands themselves.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fusion.errors import ConfigError
from fusion.job.config import flatten, locate
from fusion.job.rules import (
    BATCHES,
    COMPILE,
    DEVICES,
    DURATION,
    INTERVAL,
    MAPPING,
    MEMORY,
    ONE_PATH,
    PATH,
    PATH_OR_NULL,
    SHARE,
    SIDE,
    SWITCH,
    TEXT,
    TEXT_OR_NULL,
    Rule,
    either,
    one_of,
    real,
    several,
    whole,
)
from fusion.job.types import fits, target_hints

EVERYWHERE: dict[str, Rule] = {
    "seed": whole(0, 2**32 - 1),
    "run_dir": PATH,
    "ckpt_path": PATH_OR_NULL,
    "device": TEXT,
    "imports": either(TEXT, several(TEXT), null=True),
    "paths.data_dir": PATH,
    "paths.log_dir": PATH,
    "data.max_pixels": whole(1, null=True),
}
TRAINING: dict[str, Rule] = {
    "name": TEXT,
    "resume": PATH_OR_NULL,
    "force_resume": SWITCH,
    "test_after_fit": SWITCH,
    "monitor.metric": TEXT_OR_NULL,
    "monitor.mode": one_of("min", "max"),
    "evaluation": MAPPING,
    "evaluation.metrics": several(TEXT),
    "evaluation.convention": TEXT,
    "compile": COMPILE,
    "channels_last": SWITCH,
    "matmul_precision": one_of("highest", "high", "medium", null=True),
    "data.batch_size": whole(1),
    "data.eval_batch_size": whole(1),
    "data.crop_size": SIDE,
    "data.val_crop": SIDE,
    "data.eval_resize": SIDE,
    "data.eval_multiple": whole(1, null=True),
    "data.hflip": SHARE,
    "data.vflip": SHARE,
    "data.num_workers": whole(0, null=True),
    "data.prefetch_factor": whole(1, null=True),
    "data.rounds_per_epoch": whole(1, null=True),
    "data.*.*.skip": whole(0),
    "data.*.*.limit": whole(1, null=True),
    "optimizer.lr": real(0),
    "optimizer.weight_decay": real(0),
    "optimizer.momentum": real(0, 1),
    "optimizer.eps": real(0),
    "optimizer.betas": several(real(0, 1), 2),
    "scheduler.warmup_epochs": real(0),
    "scheduler.warmup_steps": whole(0),
    "scheduler.min_lr": real(0),
    "trainer.max_epochs": whole(-1, null=True),
    "trainer.max_steps": whole(-1),
    "trainer.devices": DEVICES,
    "trainer.num_nodes": whole(1),
    "trainer.gradient_clip_val": real(0, null=True),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.limit_train_batches": BATCHES,
    "trainer.limit_val_batches": BATCHES,
    "trainer.limit_test_batches": BATCHES,
    "trainer.val_check_interval": INTERVAL,
    "trainer.max_time": DURATION,
    "trainer.check_val_every_n_epoch": whole(1, null=True),
    "trainer.num_sanity_val_steps": whole(-1, null=True),
    "trainer.log_every_n_steps": whole(0, null=True),
    "callbacks.*.dirpath": PATH,
    "callbacks.last.every_n_train_steps": whole(0),
    "callbacks.ema.decay": SHARE,
    "callbacks.finite_guard.patience": whole(0),
    "callbacks.images.pairs_per_task": whole(0),
    "callbacks.images.size": whole(1),
    "callbacks.images.every_n_epochs": whole(1),
    "callbacks.progress.interval": real(0),
}
COMMANDS: dict[str, dict[str, Rule]] = {
    "train": TRAINING,
    "evaluate": TRAINING
    | {
        "part": one_of("test", "val"),
        "baselines": several(TEXT),
        "save_images": SWITCH,
        "image_suffix": TEXT,
        "contact_sheet": SWITCH,
        "max_memory": MEMORY,
        "suite": TEXT_OR_NULL,
    },
    "analyze": TRAINING
    | {
        "part": one_of("test", "val", "train"),
        "pairs_per_task": whole(1, null=True),
        "max_side": whole(1, null=True),
        "dir": PATH_OR_NULL,
        "a": PATH_OR_NULL,
        "b": PATH_OR_NULL,
        "task": TEXT,
    },
    "predict": {
        "a": ONE_PATH,
        "b": ONE_PATH,
        "sources": either(PATH, several(PATH), null=True),
        "grouping": TEXT,
        "many": TEXT,
        "codec": TEXT,
        "crf": real(0, 63),
        "audio": SWITCH,
        "out": PATH,
        "task": TEXT,
        "format": TEXT,
        "page": whole(0, null=True),
        "quality": whole(1, 100),
        "check_alignment": whole(-1),
        "recursive": SWITCH,
        "allow_untrained": SWITCH,
        "keep_gray": SWITCH,
        "match_size": one_of("a", "b", null=True),
        "allow_unpaired": SWITCH,
        "overwrite": SWITCH,
        "num_workers": whole(0),
        "batch_size": either(whole(1), one_of("auto")),
        "max_memory": MEMORY,
    },
    "score": {
        "a": PATH,
        "b": PATH,
        "out": PATH,
        "fused.*": PATH,
        "precision": one_of("float64", "float32"),
        "workers": whole(0),
        "resume": SWITCH,
        "plot": one_of("png", "pdf", "svg", null=True),
    },
    "report": {"run": either(TEXT, several(TEXT), null=True)},
    "data": {
        "contact_sheet": PATH_OR_NULL,
        "threads": whole(1),
        "images": PATH_OR_NULL,
        "depth_dir": PATH_OR_NULL,
        "out": PATH_OR_NULL,
        "count": whole(1, null=True),
        "ending": TEXT,
    },
    "publish": {
        "run": PATH,
        "repo": TEXT_OR_NULL,
        "dry_run": SWITCH,
        "out": PATH_OR_NULL,
        "evaluation": PATH_OR_NULL,
        "name": TEXT_OR_NULL,
        "licence": TEXT_OR_NULL,
        "notes": TEXT_OR_NULL,
        "private": SWITCH,
    },
    "demo": {
        "models": several(TEXT, null=True),
        "port": whole(1, 65535, null=True),
        "host": TEXT,
        "share": SWITCH,
        "open": SWITCH,
        "max_pixels": whole(1),
        "max_megabytes": whole(1),
        "keep_minutes": whole(1),
        "waiting": whole(1),
        "examples": SWITCH,
    },
    "export": {
        "out": PATH_OR_NULL,
        "format": one_of("onnx", "pt2", null=True),
        "batch": either(whole(1), one_of("dynamic")),
        "task": TEXT,
        "opset": whole(18, null=True),
        "tolerance": real(0),
        "allow_untrained": SWITCH,
    },
    "benchmark": {
        "size": Rule(several(whole(1), 2).accepts, "height and width in pixels, such as [480,640]"),
        "batch": whole(1),
        "task": TEXT,
        "timing": SWITCH,
        "flops": SWITCH,
        "warmup": whole(0),
        "repeats": whole(1),
        "threads": whole(1, null=True),
        "compile": COMPILE,
        "load_weights": SWITCH,
    },
}


def check_values(cfg: DictConfig, command: str) -> None:
    """Check types and ranges of a composed configuration.

    Args:
        cfg: the configuration of a job.
        command: name of its root configuration.

    Raises:
        ConfigError: the first wrong value: its key, and what was expected.
    """
    rules = EVERYWHERE | COMMANDS.get(command, {})
    values: dict[str, Any] = {}
    for key in cfg:
        if OmegaConf.is_missing(cfg, key):
            continue
        try:
            node = cfg[key]
            plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        except OmegaConfBaseException:
            continue  # what cannot be resolved is explained where it is used
        values |= flatten({str(key): plain})
    for key, value in values.items():
        rule = _rule(rules, key)
        if rule is not None and value != "???":
            rule.check(key, value)
    _check_sizes(values)


def takes_whole_numbers(cfg: DictConfig, command: str, key: str) -> bool:
    """Whether a key takes whole numbers and no others, by the rules here or by the annotation of what its node builds.

    Args:
        cfg: the configuration of a job.
        command: name of its root configuration.
        key: dotted.
    """
    if (rule := _rule(EVERYWHERE | COMMANDS.get(command, {}), key)) is not None:
        return any(map(rule.accepts, (0, 1, 8))) and not any(map(rule.accepts, (0.5, 1.5)))
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else None
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return False
    hint = target_hints(locate(str(node["_target_"]), parent)).get(name)
    return fits(1, hint) and not fits(1.5, hint)


def _rule(rules: Mapping[str, Rule], key: str) -> Rule | None:
    return rules.get(key) or next((rules[p] for p in rules if "*" in p and _like(key, p)), None)


def _like(key: str, pattern: str) -> bool:
    return key.count(".") == pattern.count(".") and fnmatchcase(key, pattern)


def _check_sizes(values: Mapping[str, Any]) -> None:
    """Crops are pictures too: one larger than any picture that is read only fills the memory."""
    limit = values.get("data.max_pixels") or 100_000_000
    for key in ("data.crop_size", "data.val_crop", "data.eval_resize"):
        side = values.get(key)
        if side is None:
            continue
        height, width = side if isinstance(side, list) else (side, side)
        if key != "data.eval_resize" and height * width > limit:
            raise ConfigError(f"{key}={side}: {height}x{width} is more than data.max_pixels={limit}")
