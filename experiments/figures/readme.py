"""The picture at the top of the README: sources and results of the three tasks, from scikit-image's photographs.

python experiments/figures/readme.py docs/images/fusion.jpg
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fusion.api import build_model, compose
from fusion.data import LLVIP, MEFB, MFIF, SampleData

COLUMNS = {
    "vif": ("visible", "infrared", "fused"),
    "mef": ("over-exposed", "under-exposed", "fused"),
    "mff": ("far focus", "near focus", "fused"),
}


def main() -> None:
    """Make sample pairs larger than those of data=samples, fuse the first of each task, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", help="a name of conf/model; that of `fusion predict` unless given")
    parser.add_argument("--pair", type=int, nargs=3, default=(0, 1, 0), help="which pair of vif, mef and mff")
    arguments = parser.parse_args()
    model = build_model(compose("predict", [f"model={arguments.model}"] if arguments.model else [], "model"), None)
    with tempfile.TemporaryDirectory() as folder:
        root = SampleData(Path(folder) / "samples", train_pairs=0, test_pairs=5, height=300, width=400).prepare()
        sets = {"vif": LLVIP(root / "LLVIP", "test"), "mef": MEFB(root / "MEFB"), "mff": MFIF(root / "MFIF")}
        figure, axes = plt.subplots(3, 3, figsize=(9, 6.9), layout="constrained")
        for (task, titles), index, column in zip(COLUMNS.items(), arguments.pair, axes.T, strict=True):
            sample = sets[task].load(index)
            fused = model.fuse(sample["a"], sample["b"], task=task).fused[0]
            pictures = (sample["a"].float() / 255, sample["b"].float() / 255, fused.expand(3, -1, -1))
            for axis, title, picture in zip(column, titles, pictures, strict=True):
                axis.imshow(picture.permute(1, 2, 0).clamp(0, 1).cpu().numpy())
                axis.set_title(title, fontsize=10)
                axis.axis("off")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=120, pil_kwargs={"quality": 82, "optimize": True})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
