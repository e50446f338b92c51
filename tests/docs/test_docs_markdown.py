"""Documentation: line lengths, links, and commands that compose."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fusion.job.config import config_dir

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.md")]
COMMAND = re.compile(r"^(?:python -m fusion\.|fusion )(\w+) (.*)$", re.M)
DOCUMENTED = sorted(
    {
        (name, line.split(" #")[0].strip())
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        if page.name != "extending.md"  # its commands are run
        for name, line in COMMAND.findall(page.read_text(encoding="utf-8").replace("\\\n", " "))
        if (config_dir() / f"{name}.yaml").is_file()
    }
)


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside code blocks and tables, with their numbers."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside and not line.lstrip().startswith("|"):
            yield number, line


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = [line.lstrip("#").strip() for _, line in prose(text) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_short_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    long = [f"{page.name}:{number}: {len(line)} characters" for number, line in prose(text) if len(line) > 120]
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        if not found.exists() or (anchor and anchor not in anchors(found.read_text(encoding="utf-8"))):
            dead.append(target)
    assert not long and not dead


def test_every_page_of_docs_is_listed_in_its_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and page.name not in index
    ] == []


def test_the_commands_that_people_copy_are_there() -> None:
    assert {"train", "predict", "score", "evaluate"} <= {name for name, _ in DOCUMENTED}


@pytest.fixture(scope="module")
def composer() -> Iterator[None]:
    """Hydra on the configuration tree."""
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield


@pytest.mark.parametrize(("name", "line"), DOCUMENTED, ids=lambda text: text[:50])
def test_a_documented_command_composes(name: str, line: str, composer: None) -> None:
    arguments = [part for part in shlex.split(line) if part not in ("-m", "--cfg", "job", "--help")]
    arguments = [first_choice(argument) for argument in rewritten(name, arguments)]
    if name == "score":  # written suite=NAME; composed as the group that it is
        suites = [part.partition("=")[2] for part in arguments if part.startswith("suite=")]
        assert all((config_dir() / "metrics" / f"{suite}.yaml").is_file() for suite in suites)
    cfg = hydra.compose(name, arguments)
    assert set(cfg)


def rewritten(name: str, arguments: list[str]) -> list[str]:
    """Arguments as the command hands them to Hydra; `resume=`, which reads a run folder, aside."""
    command = vars(import_module("fusion.data.__main__" if name == "data" else f"fusion.{name}"))
    for function in ("rewrite", "sweep_argument", "free_controls"):
        if function in command:
            return command[function](arguments)
    return arguments


def first_choice(argument: str) -> str:
    """A comma list of a sweep as its first value."""
    parsed = OverridesParser.create().parse_override(argument)
    if parsed.is_sweep_override():
        return f"{parsed.get_key_element()}={next(iter(parsed.sweep_string_iterator()))}"
    return argument
