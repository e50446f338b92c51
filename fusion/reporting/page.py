"""A page: sections of tables and pictures, written as one HTML file that needs no network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from fusion.files import number, write_text

MAX_SIDE = 2000
"""Pixels of the longer side of a picture in a page: larger ones are shrunk."""


@dataclass
class Table:
    """Rows under a header; numbers are rounded and set to the right. `marks` are (row, column) cells in bold."""

    header: list[str]
    rows: list[list[Any]]
    caption: str = ""
    decimals: int = 4
    marks: set[tuple[int, int]] = field(default_factory=set)
    wide: bool = False

    def text(self, value: Any) -> str:
        """A cell as it is shown."""
        return number(value, self.decimals)

    def is_number(self, value: Any) -> bool:
        """Whether a cell is set to the right."""
        return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass
class Picture:
    """A picture as a data URI, with what it shows."""

    source: str
    caption: str = ""


@dataclass
class Section:
    """A part of the page. Empty ones say why in `note`; `details` are folded texts by title."""

    title: str
    note: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def image_file(path: Path, caption: str = "") -> Picture:
    """A picture file; large ones are shrunk, and stored as JPEG where that is much smaller."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    image.save(jpeg, "JPEG", quality=88)
    small = jpeg.tell() * 4 < png.tell() * 3
    kind, data = ("jpeg", jpeg) if small else ("png", png)
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}", caption)


def figure(drawn: Any, caption: str = "") -> Picture:
    """A matplotlib figure, as vectors."""
    text = io.StringIO()
    drawn.savefig(text, format="svg", bbox_inches="tight")
    encoded = base64.b64encode(text.getvalue().encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{encoded}", caption)


def write_page(title: str, subtitle: str, sections: Sequence[Section], path: Path) -> Path:
    """Write the page, whole or not at all."""
    loader = PackageLoader("fusion.reporting", ".")
    environment = Environment(loader=loader, autoescape=select_autoescape(default=True), trim_blocks=True)
    template = environment.get_template("page.html.j2")
    return write_text(path, template.render(title=title, subtitle=subtitle, sections=list(sections)))
