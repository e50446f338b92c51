"""Turn a checkpoint of experiment=mae_tiny, tcmoa_tiny or tcmoa_pyramid into the half-precision weights that the package ships.

    python experiments/tiny/export.py logs/train/mae_tiny/RUN/checkpoints/last.ckpt fusion/weights/mae_tiny.safetensors

Position tables are constants and stay out; so does the frozen backbone of TC-MoA, whose checkpoints do not hold it.
"""

import argparse
import re
from pathlib import Path

import torch

from fusion.hub import read_state, save_weights

CONSTANT = re.compile(r"(^|\.)(decoder_)?pos_embed$|relative_position_index$|\.num_batches_tracked$")


def main() -> None:
    """Read, cut down, write, and print the size and checksum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--source", default="experiments/tiny", help="where they come from, kept in the file")
    arguments = parser.parse_args()
    state = {key.removeprefix("network."): value for key, value in read_state(arguments.checkpoint).items()}
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    state = {key: value.to(torch.float16) for key, value in state.items() if not CONSTANT.search(key)}
    digest = save_weights(state, arguments.weights, {"source": arguments.source})
    size = arguments.weights.stat().st_size
    print(f"{arguments.weights}: {len(state)} tensors, {size / 1e6:.2f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
