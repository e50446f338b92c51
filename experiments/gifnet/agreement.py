"""Our GIFNet with the released weights against the released code, on the samples that come with it.

    python experiments/gifnet/agreement.py Final.model IMAGES --stored DIR       outputs of the released code, stored before
    python experiments/gifnet/agreement.py Final.model IMAGES --official CLONE   the released code, run here

IMAGES is its folder `images`; DIR has SAMPLE/input_ir.npy, input_vis.npy and output_Y.npy. Run here, crops are compared, as the
released code needs 16.5 kB per pixel.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion import load_model
from fusion.data.files.image import read_image
from fusion.models.gifnet.color import official as official_colors
from fusion.models.gifnet.inference import FastGIFNet

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

SAMPLES = {
    "Medical": ("Medical/mri/1.png", "Medical/pet/1.png"),
    "MFIF": ("MFIF/vis/1.jpg", "MFIF/ir/1.jpg"),
    "MEIF": ("MEIF/vis/1.jpg", "MEIF/ir/1.jpg"),
    "NIR-VIS": ("NIR-VIS/vis/1.jpg", "NIR-VIS/nir/1.jpg"),
    "IVIF": ("IVIF/vis/1.jpg", "IVIF/ir/1.jpg"),
    **{f"Remote_band{band}": ("Remote/PAN/1.tif", f"Remote/MS_band{band}/1.tif") for band in (1, 2, 3, 4)},
}
"""Second and first input of the network."""


def cropped(images: Path, sample: str, size: tuple[int, int]) -> Tensor:
    """Luma `(1, 2, h, w)` from the middle of a sample, as the released test code makes it."""
    pictures = []
    for name in SAMPLES[sample]:
        whole = read_image(images / name).pixels[None].float() / 255
        top, left = (max((have - want) // 2, 0) for have, want in zip(whole.shape[-2:], size, strict=True))
        pictures.append(whole[..., top : top + size[0], left : left + size[1]])
    second, first, _ = official_colors(*pictures)
    return torch.cat([first, second], 1)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--stored", type=Path, default=None)
    parser.add_argument("--official", type=Path, default=None)
    parser.add_argument("--samples", nargs="*", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--crop", type=int, nargs=2, default=(448, 512))
    args = parser.parse_args()
    if (args.stored is None) == (args.official is None):
        parser.error("one of --stored and --official")
    network = load_model("gifnet", ckpt_path=args.ckpt).network
    if args.official:
        from gifnet import official  # experiments/benchmarks/gifnet.py

        run = official(args.official, args.ckpt)
    print("| sample | size | largest difference | bfloat16: largest | mean |\n|---|---|--:|--:|--:|")
    for sample in args.samples:
        with torch.inference_mode():
            if args.stored:
                if not (args.stored / sample).is_dir():
                    continue
                names = ("input_ir", "input_vis", "output_Y")
                first, second, expected = (torch.from_numpy(np.load(args.stored / sample / f"{n}.npy")) for n in names)
                pair = torch.cat([first, second], 1)
            else:
                pair = cropped(args.images, sample, tuple(args.crop))
                expected = run(pair)
            exact, half = (
                (FastGIFNet(network, dtype=dtype)(pair) - expected).abs() for dtype in (torch.float32, torch.bfloat16)
            )
        size = "x".join(map(str, pair.shape[-2:]))
        print(f"| {sample} | {size} | {exact.max():.1e} | {half.max():.1e} | {half.mean():.1e} |", flush=True)


if __name__ == "__main__":
    main()
