"""How far above the plain average can a fused picture be, in Q_abf and SSIM?

    python experiments/tiny/limits.py DATA          # DATA holds MFIF, TNO and VIFB
    python experiments/tiny/limits.py DATA --optimum # also ascends both on the pixels of crops, ten minutes

Prints means over every seventh pair: the average; the average with its detail multiplied; for multi-focus pairs the picture put
together from the sharper patches, which is what the paper's multi-focus loss asks for; and the best pictures there are, found by
ascending SSIM + weight x Q_abf on the pixels of crops.
"""

import argparse
from pathlib import Path

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from fusion import losses
from fusion.data import MFIF, TNO, VIFB
from fusion.metrics import compute

CROP = 224
WEIGHTS = (0.0, 0.03, 0.1, 0.3)  # of Q_abf beside SSIM


def scores(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Q_abf and SSIM, exact convention."""
    values = compute(a, b, fused.clamp(0, 1), ["qabf", "ssim"], dtype=torch.float32)
    return torch.stack([value.mean() for value in values.values()])


def candidates(a: Tensor, b: Tensor, multi_focus: bool, optimum: bool) -> dict[str, Tensor]:
    """Scores of fused pictures that no network made."""
    average = (a + b) / 2
    base = gaussian_blur2d(average, (13, 13), (3.0, 3.0))
    found = {"average": scores(a, b, average)}
    for gain in (1.1, 1.2, 1.35):
        found[f"average, detail x {gain}"] = scores(a, b, base + gain * (average - base))
    if multi_focus:
        found["sharper patches"] = scores(a, b, losses.sharper_patches(a, b))
    if optimum:
        top, left = ((side - CROP) // 2 for side in a.shape[-2:])
        a, b = (x[..., max(top, 0) :, max(left, 0) :][..., :CROP, :CROP] for x in (a, b))
        found["average, crop"] = scores(a, b, (a + b) / 2)
        for weight in WEIGHTS:
            found[f"best SSIM + {weight:g} Q_abf, crop"] = scores(a, b, best(a, b, weight))
    return found


def best(a: Tensor, b: Tensor, weight: float, steps: int = 100) -> Tensor:
    """The picture with the largest SSIM + `weight` x Q_abf, by Adam from the average."""
    fused = ((a + b) / 2).requires_grad_()
    optimizer = torch.optim.Adam([fused], lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        qabf, ssim = scores(a, b, fused)
        optimizer.zero_grad()
        (-ssim - weight * qabf).backward()
        optimizer.step()
        schedule.step()
    return fused.detach()


def main() -> None:
    """Print a table per data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--optimum", action="store_true")
    arguments = parser.parse_args()
    for kind in (MFIF, TNO, VIFB):
        pairs = kind(arguments.data / kind.__name__)
        rows: dict[str, list[Tensor]] = {}
        for index in range(0, len(pairs), 7):
            sample = pairs[index]
            a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
            for name, value in candidates(a, b, kind is MFIF, arguments.optimum).items():
                rows.setdefault(name, []).append(value)
        print(f"\n{kind.__name__}, {len(next(iter(rows.values())))} pairs          Q_abf    SSIM")
        for name, values in rows.items():
            qabf, ssim = torch.stack(values).mean(0).tolist()
            print(f"  {name:28s} {qabf:.3f}   {ssim:.4f}")


if __name__ == "__main__":
    main()
