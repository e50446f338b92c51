"""A page: sections of tables and pictures, written as one HTML file that needs no network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from PIL import Image

from fusion.files import number, write_text

MAX_SIDE = 2000
"""Pixels of the longer side of a picture in a page: larger ones are shrunk."""
QUALITY = 88
"""Of JPEG."""


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
    """A picture as a data URI, with what it shows, a note below, and its width and height in pixels where they are known."""

    source: str
    caption: str = ""
    note: str = ""
    size: tuple[int, int] | None = None


@dataclass
class Section:
    """A part of the page. Empty ones say why in `note`.

    Attributes:
        title: heading; "" shows none.
        note: a paragraph below it.
        markup: HTML of the caller's own, such as a table that can be sorted; what it escapes is the caller's affair.
        tables: in their order.
        folded: tables by title, closed until they are asked for.
        pictures: one below the other.
        strips: small pictures side by side, by title.
        details: folded texts by title.
    """

    title: str
    note: str = ""
    markup: Markup = field(default_factory=Markup)
    tables: list[Table] = field(default_factory=list)
    folded: dict[str, Table] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    strips: dict[str, list[Picture]] = field(default_factory=dict)
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
    png, jpeg = _encoded(image, "png", optimize=True), _encoded(image, "jpeg", quality=QUALITY)
    return Picture(jpeg if len(jpeg) * 4 < len(png) * 3 else png, caption)


def small_picture(pixels: np.ndarray, caption: str, note: str = "") -> Picture:
    """Pixels `(H, W, 3)`, uint8, as JPEG of their own size."""
    return Picture(
        _encoded(Image.fromarray(pixels), "jpeg", quality=80), caption, note, (pixels.shape[1], pixels.shape[0])
    )


def figure(drawn: Any, caption: str = "") -> Picture:
    """A matplotlib figure, as vectors."""
    text = io.StringIO()
    drawn.savefig(text, format="svg", bbox_inches="tight")
    return Picture(_uri("svg+xml", text.getvalue().encode()), caption)


def write_page(title: str, subtitle: str, sections: Sequence[Section], path: Path) -> Path:
    """Write the page, whole or not at all."""
    loader = PackageLoader("fusion.pages", ".")
    environment = Environment(loader=loader, autoescape=select_autoescape(default=True), trim_blocks=True)
    template = environment.get_template("page.html.j2")
    return write_text(path, template.render(title=title, subtitle=subtitle, sections=list(sections)))


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return _uri(kind, buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
