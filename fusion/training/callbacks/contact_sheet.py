"""One picture with the first pairs of every task: sources, fusion and prompts side by side, with headings."""

from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from lightning import LightningModule, Trainer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from fusion.files import atomic
from fusion.models.output import FusionOutput
from fusion.training.callbacks.images import ImageLogger

MARGIN = 6
FONT_SIZE = 15
SOURCES = {
    "vif": ("visible", "infrared"),
    "mef": ("over-exposed", "under-exposed"),
    "mff": ("far focus", "near focus"),
}
"""What a and b are, for the headings; other tasks have plain a and b."""


class Row(NamedTuple):
    """One pair of the sheet: its heading, and its pictures `(3, h, w)` in [0, 1] with their captions."""

    heading: str
    captions: list[str]
    pictures: list[Tensor]


class ContactSheet(ImageLogger):
    """Writes one PNG at the end of a test or validation: a row per pair with a, b, fused and the prompts of `a`.

    Args:
        path: the PNG to write; of several processes the first writes the pairs that it has fused.
        pairs_per_task: rows per task, the first pairs of each.
        size: longer side of every picture in pixels.
        prompt_sites: how many prompt maps to show, spread over the sites.
    """

    def __init__(self, path: str, pairs_per_task: int = 4, size: int = 256, prompt_sites: int = 4) -> None:
        super().__init__(str(Path(path).parent), pairs_per_task, size, prompt_sites)
        self.path = Path(path)
        self._sheet: dict[str, list[Row]] = {}

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

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
            rows.append(Row(heading, captions, [self._fit(picture)[:, :height, :width] for picture in pictures]))

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = self.size / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _write(self) -> None:
        rows = [row for task in sorted(self._sheet) for row in self._sheet[task]]
        self._sheet = {}
        if rows:
            with atomic(self.path) as temporary:
                draw(rows, self.size).save(temporary, format="PNG")


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
