"""Miniature M3FD, FMB and VT5000 with labels, made from the photographs that come with scikit-image.

A scene is a part of a photograph under uneven light, and a dim heat image of it; people (upright) and cars (wide) are warm by
little and dark to the eye, so that under a lamp the brighter source does not show them and in the dark it does. The
photographs of the test scenes are not those of the training scenes.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from fusion.data.files.image import read_image, write_image
from fusion.data.synthesis import scenes
from fusion.data.synthesis.photographs import TEST_PHOTOS, TRAIN_PHOTOS, Photo, photo_path

CLASSES = ("People", "Car")
RADII = ((4.0, 9.0), (10.0, 5.5))
"""Horizontal and vertical, of a person and of a car, in pixels of the smallest."""
FMB_NUMBERS = (8, 9)
"""Of person and car; the rest of a scene is vegetation."""
FMB_BACKGROUND = 6


class Scene(NamedTuple):
    """A pair with its labels: `visible` `(3, H, W)`, `infrared` `(1, H, W)`, object class + 1 by pixel, boxes, classes."""

    visible: Tensor
    infrared: Tensor
    objects: Tensor
    boxes: list[tuple[int, int, int, int]]
    classes: list[int]


def make(root: Path, train: int, test: int, size: tuple[int, int], seed: int = 0) -> None:
    """Write the three sets, each with scenes of its own, in their published layouts."""
    for offset, write in enumerate((_write_m3fd, _write_fmb, _write_vt5000)):
        for index in range(train + test):
            generator = torch.Generator().manual_seed(seed + 10_000 * offset + index)
            split = "train" if index < train else "test"
            write(root, split, index, scene(TRAIN_PHOTOS if split == "train" else TEST_PHOTOS, size, generator))


def scene(photos: tuple[Photo, ...], size: tuple[int, int], generator: torch.Generator) -> Scene:
    """One scene of `size`, height and width."""
    height, width = size
    image = _part(photos[int(torch.randint(len(photos), (), generator=generator))], size, generator)
    light = 0.12 + 0.8 * scenes.smooth_field(height, width, generator)
    visible = image * light
    infrared = 0.22 + 0.2 * scenes.gaussian_blur(image.mean(0, keepdim=True), [7, 7], [2.0, 2.0])
    objects = torch.zeros(height, width, dtype=torch.long)
    boxes, classes = [], []
    y, x = torch.arange(height)[:, None].float(), torch.arange(width)[None].float()
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        kind = int(torch.randint(2, (), generator=generator))
        grow, u, v, warmth, dark = torch.rand(5, generator=generator).tolist()
        rx, ry = (radius * (1 + 0.5 * grow) for radius in RADII[kind])
        cx, cy = rx + 1 + u * (width - 2 * rx - 3), ry + 1 + v * (height - 2 * ry - 3)
        power = 2 if kind == 0 else 4  # a car has corners
        inside = ((x - cx) / rx).abs() ** power + ((y - cy) / ry).abs() ** power < 1
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        if bool((objects[box[1] : box[3], box[0] : box[2]] > 0).any()):
            continue  # none behind another
        objects[inside] = kind + 1
        visible = torch.where(inside, visible * (0.25 + 0.35 * dark), visible)
        infrared = torch.where(inside, infrared + 0.1 + 0.12 * warmth, infrared)
        boxes.append(box)
        classes.append(kind)
    infrared = scenes.gaussian_blur(infrared, [3, 3], [0.7, 0.7])
    visible = visible + 0.015 * torch.randn(visible.shape, generator=generator)
    infrared = infrared + 0.015 * torch.randn(infrared.shape, generator=generator)
    return Scene(visible.clamp(0, 1), infrared.clamp(0, 1), objects, boxes, classes)


def _part(photo: Photo, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    pixels = read_image(photo_path(photo.file)).pixels[:3].float() / 255
    pixels = pixels.expand(3, -1, -1)
    first, last = (int(share * pixels.shape[2]) for share in photo.columns)
    pixels = pixels[:, :, first:last]
    zoom, u, v = torch.rand(3, generator=generator).tolist()
    fit = min(pixels.shape[1] / size[0], pixels.shape[2] / size[1]) * (0.4 + 0.6 * zoom)
    height, width = int(size[0] * fit), int(size[1] * fit)
    box = (int(u * (pixels.shape[1] - height)), int(v * (pixels.shape[2] - width)), height, width)
    return scenes.crop_and_resize(pixels, box, size)


def _write_m3fd(root: Path, split: str, index: int, made: Scene) -> None:
    name, folder = f"{index:05d}", root / "M3FD"
    write_image(folder / "Vis" / f"{name}.png", made.visible)
    write_image(folder / "Ir" / f"{name}.png", made.infrared.expand(3, -1, -1))
    height, width = made.objects.shape
    lines = [f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for kind, box in zip(made.classes, made.boxes, strict=True):
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)  # VOC counts from 1
        inner = "".join(f"<{key}>{value + 1}</{key}>" for key, value in corners)
        lines.append(f"<object><name>{CLASSES[kind]}</name><difficult>0</difficult><bndbox>{inner}</bndbox></object>")
    path = folder / "Annotation" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{''.join(lines)}</annotation>")


def _write_fmb(root: Path, split: str, index: int, made: Scene) -> None:
    folder = root / "FMB" / split
    write_image(folder / "Visible" / f"{index}.png", made.visible)
    write_image(folder / "Infrared" / f"{index}.png", made.infrared.expand(3, -1, -1))
    numbers = torch.tensor([FMB_BACKGROUND, *FMB_NUMBERS], dtype=torch.uint8)[made.objects]
    _write_labels(folder / "Label" / f"{index}.png", numbers)


def _write_vt5000(root: Path, split: str, index: int, made: Scene) -> None:
    folder = root / "VT5000" / split.capitalize()
    write_image(folder / "RGB" / f"{index}.png", made.visible)
    write_image(folder / "T" / f"{index}.png", made.infrared.expand(3, -1, -1))
    _write_labels(folder / "GT" / f"{index}.png", (made.objects > 0).to(torch.uint8) * 255)


def _write_labels(path: Path, labels: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.numpy()).save(path)
