"""Types and ranges of every command's keys: one clear line that names the key, before anything is built."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.job.config import check
from fusion.job.schema import check_values
from fusion.job.types import expected, fits

Door = Callable[..., Any]


@pytest.fixture(scope="module")
def mistakes() -> ModuleType:
    """experiments/reliability/mistakes.py."""
    folder = Path(__file__).parents[2] / "experiments" / "reliability"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("mistakes", folder / "mistakes.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_every_mistake_is_refused_in_one_line(
    mistakes: ModuleType, door: Door, miniature: Path, tmp_path: Path
) -> None:
    wrong = list(mistakes.mistakes(miniature, tmp_path))
    assert len(wrong) >= 80  # experiments/reliability tries all of them
    for command, arguments, key in wrong[::4]:
        done = door(command, *arguments)
        lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.status == 2 and len(lines) == 1 and key in lines[0], (command, arguments[-1], done.status, done.err)
        assert "Traceback" not in done.err, (arguments[-1], done.err)
    assert not (tmp_path / "out").exists() and not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("command", "values", "said"),
    [
        ("predict", {"overwrite": "maybe"}, "overwrite=maybe: expected true or false"),
        ("predict", {"match_size": "c"}, "match_size=c: expected one of a, b, or null"),
        ("predict", {"a": ""}, r"a=\(empty\): expected a path"),
        ("score", {"workers": -3}, "workers=-3: expected a whole number of at least 0"),
        ("score", {"fused": {"X": ""}}, r"fused.X=\(empty\): expected a path"),
        ("train", {"data": {"batch_size": True}}, "data.batch_size=True: expected a whole number"),
        ("train", {"data": {"crop_size": 100000}}, "data.crop_size=100000: 100000x100000 is more than data.max_pixels"),
        ("train", {"optimizer": {"lr": float("nan")}}, "optimizer.lr=nan: expected a number"),
        ("train", {"optimizer": {"betas": [0.9, 2]}}, "optimizer.betas"),
        ("benchmark", {"size": [64]}, "size=.*: expected height and width"),
    ],
)
def test_ranges(command: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_values(OmegaConf.create(values), command)


def test_what_is_missing_or_not_known_here_is_left_to_others() -> None:
    check_values(OmegaConf.create({"a": "???", "mine": {"x": 1}, "match_size": None}), "predict")


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (3, int, True), (True, int, False), ("3", int, False), (3, float, True), (None, int | None, True), ("a", str | Path, True),
        ("b", Literal["a", "c"], False), ([1, 2], list[int], True), ([1, "x"], list[int], False), (3, int | list[int], True),
        ({"a": 1}, dict[str, float], True), ({"a": "x"}, dict[str, float], False), ("x", Any, True),
        ({"_target_": "x"}, int, True), ([1, 2], tuple[int, int], True), ([1], tuple[int, int], False),
    ],
)  # fmt: skip
def test_types(value: Any, hint: Any, right: bool) -> None:
    assert fits(value, hint) is right
    assert expected(hint)


def test_annotations_of_what_is_built_are_checked(plugin: None) -> None:
    with pytest.raises(ConfigError, match=r"model.width=four: expected a whole number"):
        check({"_target_": "tinyfusion.TinyFusion", "width": "four"}, "model")
    with pytest.raises(ConfigError, match=r"optimizer.lr=abc: expected a number"):
        check({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": "abc"}, "optimizer")


def test_a_training_needs_no_logger(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    arguments = [argument for argument in tiny_overrides if not argument.startswith("logger=")]
    done = door("train", *arguments, "logger=null", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}")
    assert done.status == 0, done.err
