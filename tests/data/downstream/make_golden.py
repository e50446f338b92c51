"""Scores of public packages for the maps of tests/downstream/downstream_maps.py.

    pip install pysodmetrics==1.6.2 scikit-learn==1.9.1 scikit-image  # in an environment of its own
    python tests/data/downstream/make_golden.py

Writes golden.json beside itself, and says how far the former values are from the new ones.
"""

import json
import sys
from pathlib import Path

import numpy as np
from py_sod_metrics import MAE, Emeasure, Fmeasure
from sklearn.metrics import accuracy_score, jaccard_score

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "downstream"))

import downstream_maps as maps  # noqa: E402


def saliency(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Scores of py_sod_metrics over pairs of a prediction and a truth."""
    mae, f, e = MAE(), Fmeasure(), Emeasure()
    for prediction, truth in pairs:
        for metric in (mae, f, e):
            metric.step(pred=prediction, gt=truth)
    f, e = f.get_results()["fm"], e.get_results()["em"]
    return {
        "mean_f": float(np.mean(f["curve"])),
        "max_f": float(np.max(f["curve"])),
        "adaptive_f": float(f["adp"]),
        "mae": float(mae.get_results()["mae"]),
        "mean_e": float(np.mean(e["curve"])),
        "max_e": float(np.max(e["curve"])),
        "adaptive_e": float(e["adp"]),
    }


def segmentation(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    """Scores of scikit-learn over all pixels that count."""
    found, truth = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    found, truth = found[truth != 255], truth[truth != 255]
    iou = jaccard_score(truth, found, labels=range(4), average=None)
    return {"iou": iou.tolist(), "mIoU": float(iou.mean()), "pixel_accuracy": float(accuracy_score(truth, found))}


def main() -> None:
    """Score, compare, write."""
    seeded, photographs = maps.saliency_maps(), maps.photograph_saliency()
    golden = {
        "saliency": {name: saliency([pair]) for name, pair in (seeded | photographs).items()}
        | {"all": saliency(list(seeded.values())), "photographs": saliency(list(photographs.values()))},
        "segmentation": segmentation(maps.class_maps()),
        "segmentation_photographs": segmentation(maps.photograph_classes()),
    }
    path = HERE / "golden.json"
    former = json.loads(path.read_text()) if path.is_file() else {"saliency": {}}
    changes = [
        abs(value - golden["saliency"][name][key])
        for name, values in former["saliency"].items()
        for key, value in values.items()
    ]
    print(f"{len(changes)} former values of saliency, the largest change {max(changes, default=0.0):.1e}")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
