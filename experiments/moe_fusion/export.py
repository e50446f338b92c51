"""Turn a checkpoint of MoE-Fusion into the half-precision weights of its fusion network, which serve as model.weights.

    python experiments/moe_fusion/export.py RUN/checkpoints/last.ckpt moe_fusion_small.safetensors

Detectors are no part of them: `model/attention` says where the foreground is.
"""

import argparse
from pathlib import Path

import torch

from fusion.hub import read_state, save_weights


def main() -> None:
    """Read, cut down, write, and print the size and checksum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    found = read_state(arguments.checkpoint)
    state = {key: value.to(torch.float16) for key, value in found.items() if key.startswith("network.")}
    if not any(key.startswith("network.encoder_a.") for key in state):
        parser.error(f"{arguments.checkpoint} holds no fusion network of MoE-Fusion")
    digest = save_weights(state, arguments.weights, {"source": "experiments/moe_fusion"})
    size = arguments.weights.stat().st_size
    print(f"{arguments.weights}: {len(state)} tensors, {size / 1e6:.2f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
