"""Every command of the ledger runs at a tiny size, or is listed with what it needs."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2] / "experiments"
ENTRIES = yaml.safe_load((ROOT / "ledger.yaml").read_text())["entries"]
COMMANDS = sorted({command for entry in ENTRIES for command in entry["commands"]})


def load_lab():
    """The module beside this one."""
    spec = importlib.util.spec_from_file_location("ledger_lab", Path(__file__).with_name("ledger_lab.py"))
    module = sys.modules["ledger_lab"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAB = load_lab()
RUN = [command for command in COMMANDS if LAB.why_not(command) is None]
CHEAP = [command for command in RUN if any(part in command for part in (
    "fusion.score", "model=tcmoa_large timing=false", "fusion.predict model=gifnet", "kind=gates", "table10.csv",
    "kind=routing", "evaluate ckpt_path=RUN/checkpoints/last.ckpt data=tno",
))]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data, results, and the runs made so far."""
    return LAB.write_data(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("out"), {}


@pytest.fixture
def lab(door, folders):
    """Runs commands; runs that they take are kept over the tests of this file."""
    data, out, made = folders
    lab = LAB.Lab(door, data, out)
    lab.made, lab.count = made, len(list(out.iterdir()))
    return lab


def test_most_commands_run_and_the_others_say_what_they_need():
    assert len(RUN) > 45 and len(CHEAP) >= 8
    for part in LAB.NOT_RUN:
        assert any(part in command for command in COMMANDS), f"no command of the ledger has {part}"


@pytest.mark.parametrize("command", CHEAP, ids=LAB.short_name)
def test_command_runs_at_a_tiny_size(lab, command):
    lab.run(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in RUN if command not in CHEAP], ids=LAB.short_name)
def test_other_command_runs_at_a_tiny_size(lab, command):
    lab.run(command)
