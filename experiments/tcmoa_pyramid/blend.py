"""Half-way between the classic start and a trained checkpoint, as the weights that the package ships.

    python experiments/tcmoa_pyramid/blend.py RUN/checkpoints/last.ckpt fusion/weights/tcmoa_pyramid.safetensors --share 0.5

Weights of the cues, gains and chroma are interpolated; the heads of the experts, which start at zero, are scaled.
All else stays as trained.
"""

import argparse
from pathlib import Path

import torch

from fusion import load_model
from fusion.hub import save_weights


def main() -> None:
    """Load, blend, write in half precision, print the size and checksum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument(
        "--share", type=float, default=0.5, help="of the training; 1 is the checkpoint, 0 the classic start"
    )
    arguments = parser.parse_args()
    start = load_model("tcmoa_pyramid", overrides=["model.weights=null"]).network.state_dict()
    end = load_model("tcmoa_pyramid", arguments.checkpoint, overrides=["model.weights=null"]).network.state_dict()
    blended = dict(end)
    for name in end:
        if name.endswith((".cue_weights", ".gain", "chroma")):
            blended[name] = start[name].lerp(end[name], arguments.share)
        elif name.endswith(".head"):
            blended[name] = arguments.share * end[name]
    state = {name: value.to(torch.float16) for name, value in blended.items()}
    digest = save_weights(state, arguments.weights, {"source": "experiments/tcmoa_pyramid"})
    print(
        f"{arguments.weights}: {len(state)} tensors, {arguments.weights.stat().st_size / 1e6:.2f} MB, sha256 {digest}"
    )


if __name__ == "__main__":
    main()
