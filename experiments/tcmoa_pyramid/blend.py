"""Between the classic start and a trained checkpoint, task by task; fit.py goes on from there.

    python experiments/tcmoa_pyramid/blend.py RUN/checkpoints/last.ckpt BLENDED.safetensors --share 0.4 1 0.5

Weights of the cues, gains, hardness, faint detail and chroma are interpolated; the heads of the experts, which start at zero, are
scaled. Each has a row per task. All else stays as trained.
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
        "--share",
        type=float,
        nargs="+",
        default=[0.5],
        help="of the training, one for all tasks or one each (vif mef mff); 1 is the checkpoint, 0 the classic start",
    )
    parser.add_argument("--override", nargs="*", default=[], help="of an ablation's model, e.g. model/adapter=single")
    arguments = parser.parse_args()
    overrides = ["model.weights=null", "model.backbone.overview=false", *arguments.override]
    start = load_model("tcmoa_pyramid", overrides=overrides).network.state_dict()
    trained = load_model("tcmoa_pyramid", arguments.checkpoint, overrides=overrides)
    tasks = len(trained.tasks)
    if len(arguments.share) not in (1, tasks):
        parser.error(f"--share takes 1 or {tasks} numbers, for {', '.join(trained.tasks)}")
    shares = torch.tensor(arguments.share).expand(tasks)
    blended = dict(trained.network.state_dict())
    for name, end in blended.items():
        share = shares.view(-1, *[1] * (end.ndim - 1))
        if name.endswith((".cue_weights", ".gain", "chroma", ".hardness", ".faint")):
            blended[name] = start[name].lerp(end, share)
        elif name.endswith(".head"):
            blended[name] = share * end
    state = {name: value.to(torch.float16) for name, value in blended.items()}
    digest = save_weights(state, arguments.weights, {"source": "experiments/tcmoa_pyramid"})
    print(
        f"{arguments.weights}: {len(state)} tensors, {arguments.weights.stat().st_size / 1e6:.2f} MB, sha256 {digest}"
    )


if __name__ == "__main__":
    main()
