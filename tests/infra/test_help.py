"""`--help` of every command: its own keys with their comments, groups and controls; and the progress line."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from fusion.job.config import config_dir
from fusion.job.help import controls, help_text, own_keys
from fusion.job.meter import Meter, clock, rate

COMMANDS = ("train", "evaluate", "predict", "score", "benchmark", "analyze", "data", "report", "dashboard")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_commands_own_keys_and_their_comments(command: str) -> None:
    text = help_text(command, [])
    assert f"python -m fusion.{command}" in text
    keys = own_keys((config_dir() / f"{command}.yaml").read_text())
    assert keys and all(line in text for line in keys.splitlines())
    assert "hydra:" not in text and "defaults:" not in text and "_target_" not in text


def test_help_lists_groups_and_the_controls_of_the_chosen_model() -> None:
    text = help_text("predict", ["--help"])
    assert "model=tcmoa_pyramid   of " in text and "gifnet" in text
    assert (
        "control.alpha=1.0  steering of the prompts" in text and "control.task_weights=null  mix of the tasks'" in text
    )
    assert "Controls of" not in help_text("predict", ["model=average"])
    assert "optimizer=" not in help_text("evaluate", []) and "optimizer=" in help_text("train", [])
    assert controls("nothing") == {}


@pytest.mark.parametrize("command", ["data.__main__", "predict"])
def test_help_needs_no_other_argument(door: Callable[..., Any], command: str) -> None:
    done = door(command, "--help")
    assert done.status == 0 and done.out.startswith(("Check data", "Fuse images"))


def test_meter_says_speed_and_time_left_in_a_log_and_in_place() -> None:
    log = io.StringIO()
    meter = Meter(4, "scored", interval=0, stream=log)
    meter.step()
    meter.step(2, "x.png")
    meter.close()
    first, second, last = log.getvalue().splitlines()
    assert first.startswith("scored 1/4 pairs  ") and " pairs/s  0:00:0" in first and first.endswith(" left")
    assert second.startswith("scored 3/4 pairs  ") and second.endswith("left  x.png")
    assert last.startswith("scored 3 pairs in 0:00:0")
    live = io.StringIO()
    meter = Meter(None, "fused", interval=0, live=True, stream=live)
    meter.step()
    meter.close()
    assert live.getvalue().count("\r") == 2 and live.getvalue().count("\n") == 1
    assert (rate(123.4), rate(1.234), clock(3725)) == ("123 pairs/s", "1.23 pairs/s", "1:02:05")


def test_mixed_precision_is_for_machines_that_are_faster_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from fusion.job.resolvers import mixed_precision

    for gpu, units, accelerator, expected in (
        (True, False, "auto", "16-mixed"),
        (True, False, "cpu", "32-true"),
        (False, True, "auto", "bf16-mixed"),
        (False, False, "auto", "32-true"),
        (False, False, "gpu", "16-mixed"),  # composed on another machine
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda units=units: units)
        assert mixed_precision("16-mixed", accelerator) == expected
