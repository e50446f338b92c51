"""The command `fusion`: one name for every command, found without importing them."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import fusion
from fusion.__main__ import commands, main
from fusion.job.config import config_dir

ROOT = Path(__file__).parents[2]
EXTRA = re.compile(r"(image-)?\bfusion\[([a-z][a-z, ]*)\]")


def test_every_root_configuration_is_a_command_with_a_summary():
    known = commands()
    assert set(known) == {path.stem for path in config_dir().glob("*.yaml")}
    assert list(known)[:4] == ["train", "evaluate", "predict", "score"]
    assert all(known.values()), known


def test_help_lists_every_command_and_imports_none_of_them():
    run = subprocess.run(
        [sys.executable, "-c", "import sys; from fusion.__main__ import main\ntry: main(['--help'])\n"
         "finally: print(sorted({'torch', 'lightning', 'fusion.train'} & set(sys.modules)))"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert run.stdout.strip().endswith("[]")
    assert all(f"\n  {name} " in run.stdout for name in commands())


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fusion {fusion.__version__}\n"


def test_unknown_commands_are_refused_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["predct", "a=1"])
    assert ended.value.code == 2
    assert "no command 'predct'; did you mean 'predict'? known: train, " in capsys.readouterr().err


def test_a_command_gets_the_arguments_after_its_name(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["fusion", "predict", "a=1", "b=2"])
    monkeypatch.setattr(import_module("fusion.predict"), "main", lambda: seen.extend(sys.argv))
    main()
    assert seen == ["fusion predict", "a=1", "b=2"]


def test_metadata_name_the_package_the_command_and_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["name"] == "image-fusion"
    assert project["project"]["scripts"] == {"fusion": "fusion.__main__:main"}
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "fusion/version.py"


def test_messages_name_extras_that_the_package_has():
    """Every `pip install 'image-fusion[x]'` names an extra; nobody is sent to a package of another owner."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    folders = [ROOT / name for name in ("fusion", "conf", "docs", "experiments")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".yaml")]
    wrong = []
    for path in (*texts, *ROOT.glob("*.md")):
        for prefix, inner in EXTRA.findall(path.read_text(encoding="utf-8")):
            if not prefix or not {name.strip() for name in inner.split(",")} <= extras:
                wrong.append(f"{path.relative_to(ROOT)}: {prefix}fusion[{inner}]")
    assert not wrong
