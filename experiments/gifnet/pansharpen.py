"""Fuse the bands of a multispectral file with a panchromatic one: per band, reassembled.

    python experiments/gifnet/pansharpen.py Final.model MS.tif PAN.tif OUT

Files of several bands (four-band TIFF too) are read as they are, not as colors. OUT.tif has all bands where four or
fewer, OUT_bandN.png each of them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusion import load_model
from fusion.errors import DataError, FusionError
from fusion.models.gifnet import GIFNet

MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # Pillow's names for 8-bit files of so many bands


def read_bands(path: Path) -> Tensor:
    """Bands of a file, `(1, C, H, W)` in [0, 1].

    Raises:
        DataError: not an 8- or 16-bit image.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except OSError as error:
        raise DataError(f"{path}: no readable image ({error})") from error
    if values.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: values of type {values.dtype}; expected 8 or 16 bit")
    bands = torch.from_numpy(values.astype(np.float32) / np.iinfo(values.dtype).max)
    return bands[None, None] if bands.ndim == 2 else bands.permute(2, 0, 1)[None].contiguous()


def main() -> None:
    """Fuse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("bands", type=Path)
    parser.add_argument("pan", type=Path)
    parser.add_argument("out", type=Path, help="path without ending")
    parser.add_argument("--raw", action="store_true", help="as the network gives them, without their histograms")
    args = parser.parse_args()
    try:
        model = load_model("gifnet", ckpt_path=args.ckpt)
        assert isinstance(model, GIFNet)
        pan = read_bands(args.pan).mean(1, keepdim=True)
        fused = model.pansharpen(read_bands(args.bands), pan, restore=not args.raw)[0]
    except FusionError as error:
        sys.exit(f"error: {error}")
    levels = (fused * 255).round().byte().permute(1, 2, 0).numpy()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for index in range(levels.shape[2]):
        Image.fromarray(levels[..., index]).save(f"{args.out}_band{index + 1}.png")
    if mode := MODES.get(levels.shape[2]):
        Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels, mode=mode).save(f"{args.out}.tif")


if __name__ == "__main__":
    main()
