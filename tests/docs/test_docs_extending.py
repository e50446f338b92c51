"""docs/extending.md as a newcomer follows it: its files written, its commands run."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fusion.data import write_image
from fusion.metrics.registry import _REGISTRY

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
SECTIONS = {
    section.splitlines()[0]: section
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    if "```bash\npython" in section
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page: its Python and yaml files, and a data set of 4 + 2 pairs."""
    folder = tmp_path_factory.mktemp("my_project")
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            name = re.match(r"# (my_\S+)\n", text)
            assert name, f"a block of {language} does not say in which file it belongs:\n{text[:200]}"
            path = folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 4), ("test", 2)):
        for index in range(count):
            for side in ("visible", "thermal"):
                pixels = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9, generator=generator), (72, 80))[0]
                write_image(folder / "data" / "MyScenes" / part / side / f"{index:02d}.png", pixels)
    return folder


@pytest.fixture(autouse=True)
def at_home(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in that folder, and forget its parts afterwards."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.setenv("FUSION_PLUGINS", "")  # set by `imports=`; so it is put back
    for variable, value in re.findall(r"^export (\w+)=(\S+)$", PAGE.read_text(encoding="utf-8"), re.M):
        monkeypatch.setenv(variable, value)
    yield
    _REGISTRY.pop("gap", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_parts"]:
        del sys.modules[name]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_commands_of_a_section_run(title: str, door: Callable[..., tuple[int, str]], project: Path) -> None:
    blocks = [text for language, text in BLOCK.findall(SECTIONS[title]) if language == "bash"]
    commands = [line for text in blocks for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert commands
    for line in commands:
        python, switch, module, *arguments = shlex.split(line)
        assert (python, switch) == ("python", "-m")
        name = module.removeprefix("fusion.")
        if "debug=default" in arguments:
            arguments.append("logger=none")  # starting W&B takes longer than the step
        status, said = door("data.__main__" if name == "data" else name, *arguments)
        assert status == 0, f"{line}\n{said[-3000:]}"
    if title == "Metric":
        assert "gap" in (project / "scores.csv").read_text().splitlines()[0]
    if title == "Model":
        assert len(list((project / "fused").glob("*.png"))) == 2


def test_every_kind_of_part_has_its_section() -> None:
    assert set(SECTIONS) == {"Data set", "Router", "Expert", "Adapter", "Loss", "Metric", "Model"}
