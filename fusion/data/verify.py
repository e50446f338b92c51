"""Whether a data set is what it should be: every image read once, sizes, roles, pictures to look at."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from fusion.data.dataset import PairDataset
from fusion.data.files.image import resize, write_image
from fusion.data.files.labels import IGNORE
from fusion.data.files.ranges import scale_of
from fusion.data.files.reading import read_raster
from fusion.data.sample import Sample
from fusion.data.transforms.alignment import Alignment, alignment
from fusion.errors import DataError
from fusion.names import first_five

_PALETTE = [
    (230, 60, 60), (60, 200, 80), (60, 120, 240), (240, 200, 40), (200, 70, 220), (60, 210, 220), (250, 140, 40), (160, 220, 120),
]  # fmt: skip


@dataclass
class Report:
    """What reading every pair of a data set found.

    Attributes:
        dataset: the data set.
        pairs: number of pairs.
        sizes: number of pairs by (height, width).
        gray: pairs whose `a`, whose `b` file has one channel.
        references: pairs with ground truth.
        boxes: number of boxes.
        masks: pairs with a map of classes.
        alignment: score of every pair whose images have enough in common to tell, see `fusion.data.transforms.alignment`.
        problems: one line per pair that cannot be used.
        doubts: one line per thing that may be meant so, or not.
    """

    dataset: PairDataset
    pairs: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    gray: list[int] = field(default_factory=lambda: [0, 0])
    references: int = 0
    boxes: int = 0
    masks: int = 0
    alignment: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def labels(self) -> str:
        """What labels there are."""
        found = [f"{self.boxes} boxes"] if self.boxes else []
        return ", ".join([*found, *([f"{self.masks} maps"] if self.masks else [])]) or "-"

    def alignment_text(self) -> str:
        """Mean score of alignment, and of how many pairs."""
        if not self.alignment:
            return "-"
        return f"{sum(self.alignment) / len(self.alignment):.2f} ({len(self.alignment)})"

    def size_range(self) -> str:
        """Smallest and largest size by area, width x height."""
        if not self.sizes:
            return "-"
        ordered = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        texts = [f"{width}x{height}" for height, width in (ordered[0], ordered[-1])]
        return texts[0] if texts[0] == texts[1] else f"{texts[0]} .. {texts[1]} ({len(ordered)} sizes)"


@dataclass
class _Facts:
    size: tuple[int, int]
    gray: tuple[bool, bool]
    reference: bool
    boxes: int
    mask: bool
    same: bool
    brighter: float
    alignment: Alignment
    narrow: tuple[str | None, ...]


def verify(dataset: PairDataset, threads: int = 4) -> Report:
    """Read every image of a data set and note what is wrong with it.

    Raises:
        DataError: the folder itself is not as expected (see `PairDataset`).
    """
    report = Report(dataset, pairs=len(dataset))
    dark, same, off, narrow = [], [], [], []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for pair, facts in zip(dataset.pairs, pool.map(lambda i: _facts(dataset, i), range(len(dataset))), strict=True):
            if isinstance(facts, str):
                report.problems.append(facts)
                continue
            report.sizes[facts.size] = report.sizes.get(facts.size, 0) + 1
            report.gray[0] += facts.gray[0]
            report.gray[1] += facts.gray[1]
            report.references += facts.reference
            report.boxes += facts.boxes
            report.masks += facts.mask
            narrow += [line for line in facts.narrow if line]
            if facts.alignment.known:
                report.alignment.append(facts.alignment.score)
            if facts.alignment.is_off(facts.size):
                where = f"by about ({facts.alignment.dx:.0f}, {facts.alignment.dy:.0f}) pixels"
                off.append(f"{pair.name} {where}, score {facts.alignment.score:.2f}")
            if facts.same:
                same.append(pair.name)
            if dataset.task == "mef" and facts.brighter < 0:
                dark.append(pair.name)
    if doubt := count_doubt(dataset):
        report.doubts.append(doubt)
    if same:
        report.doubts.append(f"{dataset.name}: {len(same)} pairs of two equal images: {first_five(same)}")
    if off:
        report.doubts.append(
            f"{dataset.name}: {len(off)} pairs whose images do not lie on top of each other: {first_five(off)}; register them first"
        )
    if narrow:
        report.doubts.append(f"{dataset.name}: {len(narrow)} files use little of their range: {first_five(narrow)}")
    if dark:
        report.doubts.append(
            f"{dataset.name}: {len(dark)} pairs whose over-exposed image is the darker one: {first_five(dark)}"
        )
    return report


def count_doubt(dataset: PairDataset) -> str | None:
    """One line if a split has another number of pairs on disk than was published."""
    published, there = dataset.published_count, dataset.found or len(dataset)
    if published is None or published == there:
        return None
    return f"{dataset.name} ({dataset.split}): {there} pairs, {published} as published"


def contact_sheet(datasets: Iterable[PairDataset], path: str | Path, pairs: int = 6, height: int = 160) -> Path:
    """Write one picture with some evenly spread pairs of every data set: a row per set, `a` above `b`, labels drawn in.

    Boxes are drawn on both images, maps of classes laid over `a`; the reference, where there is one, stands below.

    Raises:
        DataError: an image cannot be read, or the picture cannot be written.
    """
    rows = []
    for dataset in datasets:
        count = min(pairs, len(dataset))
        samples = [dataset.load(i * len(dataset) // count) for i in range(count)]
        columns = [_column(sample, height) for sample in samples]
        tallest = max(column.shape[-2] for column in columns)
        columns = [F.pad(column, (0, 0, 0, tallest - column.shape[-2])) for column in columns]
        rows.append(torch.cat(columns, dim=-1))
    width = max(row.shape[-1] for row in rows)
    return write_image(path, torch.cat([F.pad(row, (0, width - row.shape[-1], 0, 4)) for row in rows], dim=-2))


def _facts(dataset: PairDataset, index: int) -> _Facts | str:
    try:
        sample = dataset.load(index)
    except DataError as error:
        return str(error)
    a, b = sample["a"], sample["b"]
    return _Facts(
        size=(a.shape[-2], a.shape[-1]),
        gray=(sample["a_is_gray"], sample["b_is_gray"]),
        reference="reference" in sample,
        boxes=len(sample.get("boxes", ())),
        mask="mask" in sample,
        same=torch.equal(a, b),
        brighter=float(a.float().mean() - b.float().mean()),
        alignment=alignment(a, b),
        narrow=tuple(_narrow(path) for path in (dataset.pairs[index].a, dataset.pairs[index].b)),
    )


def _narrow(path: Path) -> str | None:
    """What part of its range a file of more than 8 bit uses, if it is little."""
    with path.open("rb") as file:
        head = file.read(26)
    if head.startswith(b"\xff\xd8\xff") or (head.startswith(b"\x89PNG") and head[24:25] == b"\x08"):
        return None
    try:
        raster = read_raster(path)
        _, said = scale_of(raster)
    except DataError:
        return None
    lines = [line for line in said if line.startswith("warning: ")]
    return lines[0].removeprefix("warning: ").split(";")[0] if raster.depth != "8" and lines else None


def _column(sample: Sample, height: int) -> Tensor:
    width = max(1, round(sample["a"].shape[-1] * height / sample["a"].shape[-2]))
    pictures = []
    for key in [key for key in ("a", "b", "reference") if key in sample]:
        picture = resize(sample[key].contiguous(), (height, width))
        if key == "a" and "mask" in sample:
            picture = _overlay(picture, sample["mask"])
        if key != "reference" and len(sample.get("boxes", ())):
            scale = torch.tensor([width / sample["a"].shape[-1], height / sample["a"].shape[-2]]).repeat(2)
            colors = [_PALETTE[int(label) % len(_PALETTE)] for label in sample["labels"]]
            picture = draw_bounding_boxes(picture, sample["boxes"] * scale, colors=colors)
        pictures.append(picture)
    return torch.cat(pictures, dim=-2)


def _overlay(picture: Tensor, mask: Tensor) -> Tensor:
    """Class 0 and pixels that do not count stay as they are."""
    classes = F.interpolate(mask[None, None].float(), picture.shape[-2:], mode="nearest-exact")[0, 0].long()
    colors = torch.tensor(_PALETTE)[classes % len(_PALETTE)].permute(2, 0, 1)
    shown = (classes != 0) & (classes != IGNORE)
    return torch.where(shown, (0.5 * picture + 0.5 * colors).to(torch.uint8), picture)
