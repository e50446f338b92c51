"""Setting 1 of T-OAR for any number of methods: released judges, never trained on a fused image, look at folders of images.

    python experiments/toar/setting1.py OUT --data DATA --detector FastestDet.pth --segmenter MFNet.pth \\
        --fused BOARD/fused/msrs --method T-OAR=DIR

Every folder in `--fused` (as `experiments/leaderboard/board.py` fills it) is a method; `--method LABEL=DIR` adds one. The detector
is asked for the people and cars of the 17 MSRS test pairs that have boxes; the segmenter for what it sees in both sources of all
37, or with `--boxed` of those 17. Writes what `judging.write_looked` says, differences being to the visible image alone, and
OUT/segmenter_boxes.csv: how far the segmenter's people and cars are from the boxes, on the visible, the infrared and both images.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from judging import SHOWN, Fuse, judge_of, look, write_looked

from fusion.data import MSRS
from fusion.data.files.image import read_image
from fusion.errors import DataError
from fusion.files import markdown, write_csv
from fusion.metrics.bootstrap import interval, resamples

PLACES = {"People": 2, "Car": 1}
"""Class of the maps by class of the boxes."""


def methods_of(fused: Path | None, more: list[str]) -> dict[str, Fuse]:
    """The sources and every folder of fused images."""
    folders = {} if fused is None else {folder.name: folder for folder in sorted(fused.iterdir()) if folder.is_dir()}
    folders |= {label: Path(folder) for label, _, folder in (text.partition("=") for text in more)}
    return {"visible": lambda sample, a, b: a, "infrared": lambda sample, a, b: b} | {
        label: _reader(folder) for label, folder in folders.items()
    }


def _reader(folder: Path) -> Fuse:
    def read(sample: Any, a: Tensor, b: Tensor) -> Tensor:
        path = folder / f"{sample['name']}.png"
        if not path.is_file():
            raise DataError(f"{path}: no such image; one per pair is needed")
        pixels = read_image(path).pixels
        if pixels.shape[-2:] != a.shape[-2:]:
            raise DataError(f"{path}: {tuple(pixels.shape[-2:])}, but the pair is {tuple(a.shape[-2:])}")
        return pixels.expand(3, -1, -1)[None].float() / 255

    return read


def against_boxes(dataset: MSRS, judge: Any) -> list[dict[str, Any]]:
    """How far the segmenter is from the boxes: shares of boxes' pixels that have the class, and of its pixels inside boxes."""
    counts: dict[tuple[str, str], list[list[float]]] = {}
    for index in range(len(dataset)):
        sample = dataset.load(index)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        with torch.inference_mode():
            maps = {
                "visible": judge.predict_images(a),
                "infrared": judge.predict_images(b),
                "both": judge.segment_pair(a, b),
            }
        for (kind, found), (label, name) in ((k, c) for k in maps.items() for c in enumerate(PLACES)):
            boxes = sample["boxes"][sample["labels"] == label].round().int().tolist()
            inside = torch.zeros_like(found[0], dtype=torch.bool)
            reached = 0
            seen = found[0] == PLACES[name]
            for x0, y0, x1, y1 in boxes:
                inside[y0:y1, x0:x1] = True
                reached += bool(seen[y0:y1, x0:x1].float().mean() > 0.2)
            row = [len(boxes), reached, int(seen.sum()), int((seen & inside).sum())]
            counts.setdefault((kind, name), []).append(row)
    return [_shares(kind, name, rows) for (kind, name), rows in counts.items()]


def _shares(kind: str, name: str, rows: list[list[float]]) -> dict[str, Any]:
    table = torch.tensor(rows, dtype=torch.float64).numpy()
    drawn = resamples(len(table), 1000) @ table
    total = table.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # resamples without a box have no share
        found, right = interval(drawn[:, 1] / drawn[:, 0]), interval(drawn[:, 3] / drawn[:, 2])
    assert found is not None and right is not None
    return {
        "segmenter sees": kind, "class": name, "boxes": int(total[0]),
        "boxes found": total[1] / total[0], "found_low": found[0], "found_high": found[1],
        "pixels inside boxes": total[3] / total[2], "inside_low": right[0], "inside_high": right[1],
    }  # fmt: skip


def main() -> None:
    """Judge, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True, help="folder that holds MSRS")
    parser.add_argument("--detector", required=True, help="FastestDet's released weights")
    parser.add_argument("--segmenter", required=True, help="MFNet's released weights")
    parser.add_argument("--fused", type=Path, help="folder of folders of fused images")
    parser.add_argument("--method", action="append", default=[], help="LABEL=DIR of fused images")
    parser.add_argument("--boxed", action="store_true", help="let the segmenter look at the pairs with boxes alone")
    parser.add_argument("--task", action="append", choices=list(SHOWN), help="one of the two; default both")
    arguments = parser.parse_args()
    methods: Mapping[str, Fuse] = methods_of(arguments.fused, arguments.method)
    root = Path(arguments.data) / "MSRS"
    for task in arguments.task or SHOWN:
        boxed = task == "detection" or arguments.boxed
        dataset = MSRS(root, "test", require_boxes=boxed, boxes=boxed, labels=False, match_size="a")
        judge = judge_of(task, arguments.detector, arguments.segmenter)
        print(write_looked(look(methods, task, dataset, judge), task, len(dataset), arguments.out), flush=True)
        if task == "detection":
            continue
        rows = against_boxes(MSRS(root, "test", require_boxes=True, labels=False, match_size="a"), judge)
        write_csv(arguments.out / "segmenter_boxes.csv", rows)
        print(markdown(list(rows[0]), [list(row.values()) for row in rows], decimals=3))


if __name__ == "__main__":
    main()
