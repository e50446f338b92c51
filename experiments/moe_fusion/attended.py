"""What the foreground changes: MSRS's test pairs with boxes, fused without any, with a released detector's and with the true ones.

    python experiments/moe_fusion/attended.py OUT --data DATA --detector FastestDet.pth [--weights FILE]

Writes OUT/LABEL/NAME.png, which `experiments/toar/setting1.py --method LABEL=OUT/LABEL` judges, and OUT/attended.csv: a row per
pair and foreground with the mean luma inside and outside of the true boxes of the fused image, of the brighter source and of the
mean of both, Q_ABF, and the gates.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion import load_model
from fusion.data import MSRS
from fusion.data.files.image import write_image
from fusion.downstream.judges import CocoDetector, FastestDet
from fusion.files import write_csv
from fusion.layers.color import split_luma
from fusion.losses import box_mask
from fusion.metrics import score
from fusion.models.moe_fusion import JudgeAttention


def row_of(name: str, label: str, a: Tensor, b: Tensor, output: Any, mask: Tensor) -> dict[str, Any]:
    """Numbers of one fused image; `mask` `(1, 1, H, W)` is 1 inside the true boxes."""
    sources = [split_luma(image)[0] for image in (a, b)]
    brighter, mean = torch.maximum(*sources), (sources[0] + sources[1]) / 2
    pictures = {"fused": split_luma(output.fused)[0], "brighter": brighter, "mean": mean}
    row: dict[str, Any] = {"name": name, "foreground": label, "attention": float(output.extras["attention"].mean())}
    for key, picture in pictures.items():
        for region, weight in (("inside", mask), ("outside", 1 - mask)):
            row[f"{key} {region}"] = round(float((picture * weight).sum() / weight.sum()), 5)
    row["qabf"] = round(float(score(a[0], b[0], output.fused[0], metrics=["qabf"])["qabf"]), 5)
    for site, routing in zip(output.sites, output.routings, strict=True):
        row |= {f"{site} {index}": round(gate, 4) for index, gate in enumerate(routing.weights[0].tolist())}
    return row


def main() -> None:
    """Fuse, write, print means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds MSRS")
    parser.add_argument("--detector", required=True, help="FastestDet's released weights")
    parser.add_argument("--weights", help="of the fusion network, in place of the package's")
    arguments = parser.parse_args()
    overrides = [f"model.weights={arguments.weights}"] if arguments.weights else []
    model: Any = load_model("moe_fusion_small", overrides=overrides)
    judge = JudgeAttention(CocoDetector(FastestDet, arguments.detector))
    dataset = MSRS(arguments.data / "MSRS", "test", labels=False, require_boxes=True, match_size="a")
    rows = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        mask = box_mask([sample["boxes"]], (a.shape[-2], a.shape[-1]))
        found = judge(split_luma(a)[0], split_luma(b)[0]).map
        for label, attention in (("none", torch.zeros_like(mask)), ("detector", found), ("boxes", mask)):
            with torch.inference_mode():
                output = model(a, b, attention=attention)
            write_image(arguments.out / label / f"{sample['name']}.png", output.fused[0])
            rows.append(row_of(sample["name"], label, a, b, output, mask))
        print(f"{index + 1}/{len(dataset)} {sample['name']}", flush=True)
    print(write_csv(arguments.out / "attended.csv", rows))
    for label in dict.fromkeys(row["foreground"] for row in rows):
        some = [row for row in rows if row["foreground"] == label]
        keys = [key for key in rows[0] if key not in ("name", "foreground")]
        print(label, {key: round(sum(row[key] for row in some) / len(some), 3) for key in keys})


if __name__ == "__main__":
    main()
