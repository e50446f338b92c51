"""What autocast costs TC-MoA's pictures: error against float32 by type and by `model.network.stream`; needs scikit-image.

    python experiments/benchmarks/short_types.py --device cpu --side 224

The pair is a photograph and the same out of focus, fused as multi-focus with the shipped weights of tcmoa_tiny.
"""

import argparse

import torch
from skimage.data import astronaut
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from fusion import load_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=224, help="of the pictures, in pixels")
    args = parser.parse_args()
    photograph = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float().to(args.device) / 255
    sharp = interpolate(photograph, (args.side, args.side), mode="area")
    pair = (sharp, gaussian_blur(sharp, [9, 9]))
    model = load_model("tcmoa_tiny", device=args.device)
    exact = model.fuse(*pair, task="mff").fused
    print("| type | stream | rms | largest |\n|---|---|--:|--:|")
    for dtype in (torch.bfloat16, torch.float16):
        for stream in ("float32", "autocast"):
            model.network.stream = stream
            with torch.autocast(torch.device(args.device).type, dtype):
                error = model.fuse(*pair, task="mff").fused - exact
            name = str(dtype).removeprefix("torch.")
            print(f"| {name} | {stream} | {error.square().mean().sqrt():.2g} | {error.abs().max():.2g} |", flush=True)


if __name__ == "__main__":
    main()
