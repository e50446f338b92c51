"""The ledger: STATUS.md is what its generator writes, and every command in it is one that the programs take."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from fusion.job.cli import free_controls
from fusion.job.config import check

ROOT = Path(__file__).parents[2] / "experiments"
ENTRIES = yaml.safe_load((ROOT / "ledger.yaml").read_text())["entries"]
COMMANDS = sorted({command for entry in ENTRIES for command in entry["commands"]})


def load_status():
    """The generator, which is a script."""
    spec = importlib.util.spec_from_file_location("status", ROOT / "status.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_status_is_up_to_date():
    assert (ROOT / "STATUS.md").read_text() == load_status().status(ROOT), "run python experiments/status.py"


def test_measured_tables_appear_with_their_origin(tmp_path):
    (tmp_path / "ledger.yaml").write_text("entries: [{paper: P, title: T, commands: [c | d], measured: m.csv}]")
    assert "| T | `c \\| d` | - | not run | - |" in load_status().status(tmp_path)
    (tmp_path / "m.csv").write_text("method,qabf,hardware,commit,date,command\nours,0.5,CPU,abc,2026-01-01,c\n")
    assert "[m.csv](m.csv), 1 rows of ours: qabf (CPU, abc, 2026-01-01)" in load_status().status(tmp_path)


def test_every_entry_says_what_was_published_and_measured_or_what_is_missing():
    for entry in ENTRIES:
        assert entry["commands"] and entry["title"] and entry["paper"]
        assert not entry.get("published") or (ROOT / entry["published"]).is_file()
        measured = entry.get("measured")
        assert entry.get("missing") or (measured and (ROOT / measured).is_file()), entry["title"]
        recorded = re.findall(r"record=experiments/(\S+)", " ".join(entry["commands"]))
        assert set(recorded) <= {measured, *recorded} and all(path.endswith(".csv") for path in recorded)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.removeprefix("python -m fusion.")[:70])
def test_every_command_composes(compose, command):
    words = shlex.split(command)
    assert words[0] == "python"
    if words[1] != "-m":
        assert (ROOT.parent / words[1]).is_file()
        return
    root, arguments = words[2].removeprefix("fusion."), free_controls([word for word in words[3:] if word != "-m"])
    parsed = OverridesParser.create().parse_overrides(arguments)
    lists = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] if o.is_sweep_override() else [text]
        for o, text in zip(parsed, arguments, strict=True)
    ]
    for index in range(max(map(len, lists))):
        given = [values[index % len(values)] for values in lists]
        plain = [text for text in given if text.split("=")[0] in ("ckpt_path", "record", "dir")]
        suite = next((text.split("=")[1] for text in given if root == "evaluate" and text.startswith("suite=")), None)
        cfg = compose(
            root, *(text for text in given if text not in plain and not (suite and text.startswith("suite=")))
        )
        assert all(text.split("=")[0] in cfg for text in plain)
        assert suite is None or (ROOT.parent / "conf" / "metrics" / f"{suite}.yaml").is_file()
        if root == "train":
            check({key: cfg[key] for key in ("model", "trainer")})
