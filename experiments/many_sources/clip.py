"""Steadiness of fused videos by model, and what the encoder of `predict` loses, on a clip made from one pair.

    python experiments/many_sources/clip.py visible.jpg infrared.jpg --out experiments/many_sources/steadiness.csv

The camera pans over the pair, each source has noise of its own (visible 2, infrared 3 grey levels). Frames are fused in memory,
then written as `predict` writes them and read again.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from fusion import load_model
from fusion.data.files.image import read_image
from fusion.data.files.video import Video, VideoWriter
from fusion.files import write_csv
from fusion.inference.steadiness import Steadiness


def main() -> None:
    """Fuse, measure, write one row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--models", nargs="+", default=["average", "laplacian", "tcmoa_pyramid", "toar_base"])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=[208, 304])
    parser.add_argument("--crf", type=float, default=12)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip = made(args.a, args.b, args.frames, args.size)
    rows = []
    for name in args.models:
        model, steady = load_model(name), Steadiness()
        fused = [model.fuse(a, b, task="vif").fused for a, b in clip]
        for (a, b), one in zip(clip, fused, strict=True):
            steady.add(a, b, one)
        frames = [(255 * one[0]).round().byte() for one in fused]
        psnr, rate = encoded(frames, args.crf)
        row = {"model": name, "flicker": steady.flicker, "change": steady.change, "average": steady.average}
        rows.append({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()})
        rows[-1] |= {"psnr_encoded": round(psnr, 2), "bits_per_pixel": round(rate, 3)}
        print(rows[-1], flush=True)
    write_csv(args.out, rows)


def made(a: Path, b: Path, count: int, size: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Frames of both sources."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    pictures = [read_image(path).pixels.float() / 255 for path in (a, b)]
    frames = []
    for t in range(count):
        top = round(t / max(count - 1, 1) * min(2 * count, pictures[0].shape[-2] - height))
        left = round(t / max(count - 1, 1) * min(3 * count, pictures[0].shape[-1] - width))
        seen = []
        for picture, noise in zip(pictures, (2, 3), strict=True):
            part = picture[:, top : top + height, left : left + width]
            part = part + noise / 255 * torch.randn(part.shape[-2:], generator=generator)
            seen.append((part.clamp(0, 1) * 255).round()[None] / 255)
        frames.append((seen[0], seen[1]))
    return frames


def encoded(frames: list[Tensor], crf: float) -> tuple[float, float]:
    """PSNR of what comes back, and bits per pixel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "o.mp4"
        size = (frames[0].shape[-2], frames[0].shape[-1])
        writer = VideoWriter(path, path, size, Fraction(25), Fraction(1, 25), crf=crf)
        for index, frame in enumerate(frames):
            writer.write((frame.expand(3, -1, -1) if len(frame) == 1 else frame).numpy(), index)
        writer.finish(len(frames) / 25)
        writer.close()
        back = [torch.from_numpy(frame.raster.planes) for frame in Video(path).frames()]
        error = torch.stack([(x.float() - y.float()).square().mean() for x, y in zip(back, frames, strict=True)]).mean()
        rate = 8 * path.stat().st_size / (len(frames) * size[0] * size[1])
    return float(10 * torch.log10(255**2 / error)), rate


if __name__ == "__main__":
    main()
