"""A contact sheet: rows of pairs, columns of the sources and of what methods made of them.

    python experiments/leaderboard/sheet.py A B OUT/fused/msrs sheet.png --pairs 5 --method SeAFusion --method IFCNN

A and B are folders of the sources, under the names of the fused images; without --method all folders are shown.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from fusion.data.files.image import read_image, resize
from fusion.data.files.pairs import natural_key
from fusion.errors import DataError

BAR = 16
"""Height of the headings in pixels."""


def picture(folder: Path, name: str, width: int) -> Image.Image:
    """An image of a folder, so many pixels wide."""
    found = next((path for path in sorted(folder.glob(f"{name}.*"))), None)
    if found is None:
        raise DataError(f"{folder}: no image named {name}")
    pixels = read_image(found).pixels.expand(3, -1, -1)
    height = round(width * pixels.shape[-2] / pixels.shape[-1])
    small = resize(pixels.contiguous(), (height, width)).clamp(0, 255).to(torch.uint8)
    return Image.fromarray(small.permute(1, 2, 0).numpy())


def main() -> None:
    """Choose, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("fused", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--width", type=int, default=256, help="of one picture, in pixels")
    parser.add_argument("--method", action="append", default=[])
    arguments = parser.parse_args()
    methods = arguments.method or sorted(folder.name for folder in arguments.fused.iterdir() if folder.is_dir())
    folders = {"a": arguments.a, "b": arguments.b} | {method: arguments.fused / method for method in methods}
    there = [{path.stem for path in (arguments.fused / method).iterdir()} for method in methods]
    names = sorted(set.intersection(*there), key=natural_key)
    if not names:
        parser.error(f"{arguments.fused}: no image that all of {', '.join(methods)} have")
    count = min(arguments.pairs, len(names))
    rows = [
        [picture(folder, names[place * len(names) // count], arguments.width) for folder in folders.values()]
        for place in range(count)
    ]
    heights = [max(image.height for image in row) for row in rows]
    sheet = Image.new("RGB", (arguments.width * len(folders), BAR + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(folders):
        draw.text((column * arguments.width + 4, 2), name, fill="black")
    top = BAR
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            sheet.paste(image, (column * arguments.width, top))
        top += height
    sheet.save(arguments.sheet)
    print(f"{arguments.sheet}: {count} pairs, {len(folders)} columns")


if __name__ == "__main__":
    main()
