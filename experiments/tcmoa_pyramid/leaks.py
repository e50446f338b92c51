"""Pictures that training and test sets share: by thumbnail, whatever the file is called, and by name.

    python experiments/tcmoa_pyramid/leaks.py DATA [--above 0.9]

Every source of every pair is shrunk to 32x32 grey values; printed are the pairs of a training and a test picture whose thumbnails
correlate above the limit, also mirrored, and names that both sides have. Look at what is printed: two night streets may correlate.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.api import compose
from fusion.job.config import instantiate

SIDE = 32


def thumbnail(path: Path) -> np.ndarray:
    """Standardised grey values `(1024,)`."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    return (grey.ravel() - grey.mean()) / (grey.std() + 1e-6) / SIDE


def gather(parts: Mapping[str, object]) -> tuple[list[str], np.ndarray]:
    """Names and thumbnails of both sources of every pair of some data sets."""
    names, thumbs = [], []
    for key, part in parts.items():
        dataset = getattr(part, "source", part)  # photographs behind synthetic pairs
        for pair in dataset.pairs:
            for side in ("a", "b"):
                names.append(f"{key}/{pair.name}:{side}")
                thumbs.append(thumbnail(getattr(pair, side)))
    return names, np.stack(thumbs)


def main() -> None:
    """Print what training and test pictures have in common."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--above", type=float, default=0.9, help="smallest correlation to print")
    parser.add_argument("--config", default="tcmoa_pyramid", help="of conf/data")
    arguments = parser.parse_args()
    config = compose("train", [f"data={arguments.config}", f"paths.data_dir={arguments.data}"], "data")
    module = instantiate(config)
    train, thumbs = gather({**module.parts["train"], **{f"val {k}": v for k, v in module.parts["val"].items()}})
    test, others = gather(module.parts["test"])
    mirrored = others.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(others), -1)
    found = np.maximum(thumbs @ others.T, thumbs @ mirrored.T)
    print(
        f"{len(train)} training and validation pictures, {len(test)} test pictures; correlation above {arguments.above:g}:"
    )
    for row, column in sorted(zip(*np.nonzero(found > arguments.above), strict=True), key=lambda at: -found[at]):
        print(f"{found[row, column]:.3f}  {train[row]}  {test[column]}")
    stems = {name.split("/", 1)[1].split(":")[0].lower() for name in test}
    same = sorted({name for name in train if name.split("/", 1)[1].split(":")[0].lower() in stems})
    print(f"names that a test pair has too: {', '.join(same) or 'none'}")


if __name__ == "__main__":
    main()
