"""Rows of pictures, one per pair: sources, fusion and prompts side by side, with headings and captions."""

from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from fusion.files import atomic
from fusion.models.output import FusionOutput

MARGIN = 6
FONT_SIZE = 15
SOURCES = {
    "vif": ("visible", "infrared"),
    "mef": ("over-exposed", "under-exposed"),
    "mff": ("far focus", "near focus"),
}
"""What a and b are, for the headings; other tasks have plain a and b."""


class Row(NamedTuple):
    """One pair: its heading, its pictures `(3, h, w)` in [0, 1] with their captions, and which pair it is."""

    heading: str
    captions: list[str]
    pictures: list[Tensor]
    task: str = ""
    dataset: str = ""
    name: str = ""


class PairRows(Callback):
    """Collects the first pairs of every task as rows, each picture at the size of its pair without any padding.

    Args:
        pairs_per_task: rows per task, the first pairs of each.
        size: longer side of every picture in pixels.
        prompt_sites: how many prompt maps to show, spread over the sites.
    """

    def __init__(self, pairs_per_task: int, size: int, prompt_sites: int) -> None:
        self.pairs_per_task, self.size, self.prompt_sites = pairs_per_task, size, prompt_sites
        self._sheet: dict[str, list[Row]] = {}

    def _collect(self, trainer: Trainer, model: LightningModule, outputs: Any, batch: Any) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking or not isinstance(outputs, FusionOutput):
            return
        task = batch["task"]
        rows = self._sheet.setdefault(task, [])
        frame = _Frame(model, batch["a"].shape[-2:])
        for index in range(min(len(batch["a"]), self.pairs_per_task - len(rows))):
            sources = SOURCES.get(task, ("", ""))
            captions = [f"{key}: {what}" if what else key for key, what in zip("ab", sources, strict=True)] + ["fused"]
            pictures = [batch["a"][index, None], batch["b"][index, None], outputs.fused[index, None]]
            for prompt in self._spread(outputs.prompts):
                if len(prompt) != len(batch["a"]):  # of tiles, not of whole images
                    continue
                site = next(s for s, p in zip(outputs.sites, outputs.prompts, strict=True) if p is prompt)
                captions.append(f"prompt of a, {site}")
                pictures.append(frame.cut(prompt[index : index + 1, :1]))
            dataset = batch["dataset"][index] if batch.get("dataset") else ""
            heading = "   ".join(part for part in (task, dataset, batch["name"][index]) if part)
            height, width = self._fitted(frame.size)
            fitted = [self._fit(picture, (height, width)) for picture in pictures]
            rows.append(Row(heading, captions, fitted, task, dataset, batch["name"][index]))

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = self.size / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _take(self) -> list[Row]:
        """The rows so far, which are forgotten."""
        rows = [row for task in sorted(self._sheet) for row in self._sheet[task]]
        self._sheet = {}
        return rows

    def _spread(self, prompts: list[Tensor]) -> list[Tensor]:
        if len(prompts) <= self.prompt_sites or self.prompt_sites < 2:
            return prompts[: self.prompt_sites]
        last = len(prompts) - 1
        return [prompts[round(index * last / (self.prompt_sites - 1))] for index in range(self.prompt_sites)]

    @staticmethod
    def _fit(picture: Tensor, size: tuple[int, int]) -> Tensor:
        picture = picture.detach().float().clamp(0, 1)
        picture = F.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
        return picture[0].expand(3, -1, -1).clamp(0, 1).cpu()


def write_sheet(rows: list[Row], size: int, path: Path) -> None:
    """Write rows as one PNG, whole or not at all."""
    with atomic(path) as temporary:
        draw(rows, size).save(temporary, format="PNG")


class _Frame:
    """Where the pixels of an image lie in maps of a model: padded images have tokens beyond the border."""

    def __init__(self, model: LightningModule, size: tuple[int, int]) -> None:
        self.size = (int(size[0]), int(size[1]))
        padded = getattr(model, "size_policy", "pad") == "pad"
        multiple = getattr(model, "size_multiple", 1) if padded else 1
        self.whole = tuple(-(-side // multiple) * multiple for side in self.size)

    def cut(self, values: Tensor) -> Tensor:
        """The part `(1, 1, H, W)` of a map `(1, 1, h, w)` that lies on the image, a square per token."""
        return F.interpolate(values.float(), self.whole, mode="nearest")[..., : self.size[0], : self.size[1]]


def draw(rows: list[Row], size: int) -> Image.Image:
    """Put the rows together: headings above the rows, captions above the pictures, white around."""
    font = ImageFont.load_default(FONT_SIZE)
    small = ImageFont.load_default(FONT_SIZE - 2)
    line = FONT_SIZE + 6
    columns = max(len(row.pictures) for row in rows)
    heights = [2 * line + row.pictures[0].shape[-2] + 2 * MARGIN for row in rows]
    sheet = Image.new("RGB", (MARGIN + columns * (size + MARGIN), sum(heights) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        pen.rectangle((0, top, sheet.width, top + line), fill=(225, 231, 240))
        pen.text((MARGIN, top + 2), _shorten(row.heading, sheet.width - 2 * MARGIN, font), "black", font)
        for column, (caption, picture) in enumerate(zip(row.captions, row.pictures, strict=True)):
            left = MARGIN + column * (size + MARGIN)
            pen.text((left, top + line + 3), _shorten(caption, size, small), (70, 70, 70), small)
            sheet.paste(to_pil_image(picture), (left, top + 2 * line))
        top += height
    return sheet


def _shorten(text: str, width: float, font: Any) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
