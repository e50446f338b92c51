"""Turn a checkpoint of T-OAR into half-precision weights.

    python experiments/toar/export.py logs/train/toar_base_small/RUN/checkpoints/last.ckpt toar_base.safetensors

Stage one's file serves as model.weights of toar_base and as model.base_weights of toar; stage two's holds both stages and the
vectors of the known sentences, so that those need no text encoder, and serves as model.weights of toar.
"""

import argparse
from pathlib import Path

import torch

from fusion.api import load_model
from fusion.hub import read_state, save_weights
from fusion.models.toar.module import SENTENCE


def smaller(value: torch.Tensor) -> torch.Tensor:
    """In half precision, but for what that cannot hold, such as variances of features under large predicted kernels."""
    half = value.to(torch.float16)
    return half if half.isfinite().all() else value.float()


def main() -> None:
    """Read, cut down, write, and print the size and checksum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    state = {
        key: v for key, v in read_state(arguments.checkpoint).items() if key.startswith(("network.", "regulation."))
    }
    if any(key.startswith("regulation.") for key in state):
        known = load_model(ckpt_path=arguments.checkpoint).text.known()
        state |= {SENTENCE + sentence: vector for sentence, vector in known.items()}
    state = {key: smaller(value) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if not state:
        parser.error(f"{arguments.checkpoint} holds no network of T-OAR")
    digest = save_weights(state, arguments.weights, {"source": "experiments/toar"})
    size = arguments.weights.stat().st_size
    print(f"{arguments.weights}: {len(state)} tensors, {size / 1e6:.2f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
