"""Makes small sets of scenes with boxes in the layouts of M3FD, FLIR-aligned and LLVIP, to try the experiments without them.

    python experiments/moe_fusion/miniature.py FOLDER          # 24 scenes of 96x128
    python experiments/moe_fusion/miniature.py FOLDER --scenes 8

People and cars are flat shapes, warm in the infrared image and nearly lost in the visible one, on a textured ground.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fusion.data.files.image import write_image

SIZE = (96, 128)
KINDS = {"person": (0.95, (8, 14), (20, 34)), "car": (0.75, (26, 42), (14, 24))}
"""Warmth, range of widths, range of heights."""
Box = tuple[str, int, int, int, int]


def scene(generator: torch.Generator) -> tuple[Tensor, Tensor, list[Box]]:
    """A visible and an infrared picture `(3, H, W)`, and its boxes."""

    def noise(rows: int, columns: int, channels: int) -> Tensor:
        coarse = torch.rand(1, channels, rows, columns, generator=generator)
        return interpolate(coarse, SIZE, mode="bicubic")[0].clamp(0, 1)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    visible = 0.4 * noise(4, 6, 3) + 0.3 * noise(32, 48, 1)
    infrared = (0.2 * noise(3, 4, 1) + 0.2 * noise(16, 24, 1)).expand(3, -1, -1).clone()
    boxes: list[Box] = []
    for kind, (warmth, widths, heights) in KINDS.items():
        for _ in range(draw(1, 3)):
            width, height = draw(*widths), draw(*heights)
            x, y = draw(0, SIZE[1] - width), draw(0, SIZE[0] - height)
            infrared[:, y : y + height, x : x + width] = warmth
            visible[:, y : y + height, x : x + width] = torch.rand(3, 1, 1, generator=generator) / 4
            boxes.append((kind, x, y, x + width, y + height))
    return visible, infrared, boxes


def annotation(boxes: list[Box], names: dict[str, str]) -> str:
    """VOC, which counts pixels from 1; kinds without a name in this data set are left out."""
    objects = ""
    for kind, *corners in boxes:
        if kind in names:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            box = "".join(f"<{side}>{value + 1}</{side}>" for side, value in sides)
            objects += f"<object><name>{names[kind]}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


def write(path: Path, text: str) -> None:
    """A text file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main() -> None:
    """Write the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=24)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    m3fd, flir, llvip = (arguments.folder / name for name in ("M3FD", "FLIR", "LLVIP"))
    names: dict[str, list[str]] = {"train": [], "test": []}
    for index in range(arguments.scenes):
        visible, infrared, boxes = scene(generator)
        split = "test" if index % 4 == 3 else "train"
        write_image(m3fd / "Vis" / f"{index:05d}.png", visible)
        write_image(m3fd / "Ir" / f"{index:05d}.png", infrared)
        write(m3fd / "Annotation" / f"{index:05d}.xml", annotation(boxes, {"person": "People", "car": "Car"}))
        write_image(flir / "JPEGImages" / f"FLIR_{index:05d}_RGB.jpg", visible)
        write_image(flir / "JPEGImages" / f"FLIR_{index:05d}_PreviewData.jpeg", infrared)
        same = {"person": "person", "car": "car"}
        write(flir / "Annotations" / f"FLIR_{index:05d}_PreviewData.xml", annotation(boxes, same))
        names[split].append(f"FLIR_{index:05d}_PreviewData")
        write_image(llvip / "visible" / split / f"{index:06d}.jpg", visible)
        write_image(llvip / "infrared" / split / f"{index:06d}.jpg", infrared)
        write(llvip / "Annotations" / f"{index:06d}.xml", annotation(boxes, {"person": "person"}))
    write(flir / "align_train.txt", "\n".join(names["train"]))
    write(flir / "align_validation.txt", "\n".join(names["test"]))
    print(f"{arguments.scenes} scenes in {m3fd}, {flir} and {llvip}")


if __name__ == "__main__":
    main()
