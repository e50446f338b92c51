"""Doors answer mistakes with one line and a status."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from fusion.errors import DataError
from fusion.job.cli import command as make_door
from fusion.job.config import check, config_dir


def last_line(text: str) -> str:
    """Last line that says something."""
    return text.strip().splitlines()[-1]


def test_unknown_key_names_the_nearest(process: Callable) -> None:
    done = process("train", "model=average", "seeed=3")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: unknown key 'seeed'; did you mean 'seed'?"


def test_unknown_key_below_a_chosen_group(door: Callable) -> None:
    done = door("train", "model=average", "optimizer=adam", "optimizer.lrr=3")
    assert (done.status, last_line(done.err)) == (2, "error: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?")


def test_new_keys_of_a_mapping_are_told_from_an_unknown_key(door: Callable) -> None:
    new = "model.loss.term_weights={vif: {edge: 1.0}}"
    refused = door("train", "experiment=tcmoa_large", new)
    assert refused.status == 2
    assert last_line(refused.err).endswith("write ++model.loss.term_weights={...} to add them")
    accepted = door("train", "experiment=tcmoa_large", f"++{new}", "model.top_k=9")
    assert "model.top_k=9 must lie in" in last_line(accepted.err)


def test_full_error_brings_the_traceback_back(door: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in door("train", "model=average", "seeed=3").err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in door("train", "model=average", "seeed=3").err


def test_unknown_option_lists_the_known(door: Callable) -> None:
    done = door("train", "model=averege")
    line = last_line(done.err)
    assert done.status == 2
    assert "'averege'" in line and "'average'" in line and "maximum" in line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=[", "seed=["),
        ("model.weight.deeper=1", "model.weight"),
        ("monitor.metric=???", "'monitor.metric' has no value yet"),
        ("+model.wieght=1", "'model.wieght'; did you mean 'model.weight'"),
        ("model._target_=os.system", "model._target_=os.system"),
        ("model._target_=torch.serialization.os.system", "only|not an object"),
        ("model._target_=fusion.models.baselines.Avrage", "did you mean 'Average'"),
    ],
)
def test_mistakes_name_the_key(door: Callable, override: str, expected: str, tmp_path: Path) -> None:
    done = door("train", "model=average", override, f"run_dir={tmp_path}", "data=folders")
    assert done.status == 2
    line = last_line(done.err)
    assert line.startswith("error: ")
    assert re.search(expected if "|" in expected else re.escape(expected), line)
    assert "Traceback" not in done.err


def test_nothing_to_train_is_said(door: Callable, tiny_overrides: list[str], tmp_path: Path) -> None:
    done = door("train", *tiny_overrides, "model=average", f"run_dir={tmp_path / 'run'}")
    assert done.status == 2
    assert "Average has no parameters to train" in last_line(done.err)


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main = door_raising(ValueError("broken"))
    monkeypatch.setattr("sys.argv", ["x", "model=average"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" in err and last_line(err) == "error: broken"


def test_errors_in_the_middle_of_a_chain_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = DataError("folder\nmissing")
    main = door_raising(wrapped)
    monkeypatch.setattr("sys.argv", ["x", "model=average"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: folder missing\n")


def interrupted_as_lightning_does() -> SystemExit:
    """What remains of Ctrl-C behind Lightning."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904
    except SystemExit as stop:
        return stop


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (KeyboardInterrupt(), 130),
        (interrupted_as_lightning_does(), 130),
        (SIGTERMException(), 143),
        (SystemExit(3), 3),
    ],
)
def test_signals_have_their_usual_status(
    monkeypatch: pytest.MonkeyPatch, stop: BaseException, status: int, undo_globals: None
) -> None:
    main = door_raising(stop)
    monkeypatch.setattr("sys.argv", ["x", "model=average"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status


@pytest.mark.parametrize("group", ["trainer", "callbacks", "logger", "optimizer", "scheduler", "debug"])
def test_every_option_of_ours_composes_and_checks(group: str, undo_globals: None) -> None:
    for file in sorted((config_dir() / group).glob("*.yaml")):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", ["model=average", "data=folders", f"{group}={file.stem}"])
        checked = check(config)
        assert checked["trainer"]["_target_"] == "lightning.Trainer"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_LOGS", str(tmp_path / "logs"))


def door_raising(error: BaseException) -> Callable[[], None]:
    """A door on the training configuration whose main raises."""

    def main(cfg: DictConfig) -> None:
        raise error

    return make_door("train")(main)
