"""Maps whose scores tests/data/downstream holds, from seeds and from photographs; shared with the script that made those.

Golden values: py_sod_metrics (`normalize=True`) and scikit-learn's `jaccard_score`, on exactly these maps; of photographs
that come with scikit-image, what simple methods find salient in them, and their gray levels in classes.
"""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.filters import threshold_otsu


def saliency_maps() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth, uint8, by name."""
    rng = np.random.default_rng(0)
    blob = gaussian_filter(rng.normal(size=(48, 64)), 6)
    truth = blob > np.quantile(blob, 0.8)
    soft = gaussian_filter(truth.astype(float), 2) + 0.1 * gaussian_filter(rng.normal(size=truth.shape), 1)
    soft = (255 * np.clip(soft, 0, 1)).astype(np.uint8)
    noise = rng.integers(0, 256, (31, 45), dtype=np.uint8)
    random_truth = rng.random((31, 45)) > 0.6
    inverted = 255 - soft
    dim = (soft * 0.3).astype(np.uint8) + 20
    return {
        "smooth": (soft, _gray(truth)),
        "noise": (noise, _gray(random_truth)),
        "inverted": (inverted, _gray(truth)),
        "dim": (dim, _gray(truth)),
        "perfect": (_gray(truth), _gray(truth)),
        "nothing there": (noise, _gray(np.zeros_like(random_truth))),
        "everything there": (noise, _gray(np.ones_like(random_truth))),
        "constant": (np.full((20, 24), 90, np.uint8), _gray(np.arange(480).reshape(20, 24) % 3 == 0)),
        "black": (np.zeros((20, 24), np.uint8), _gray(np.arange(480).reshape(20, 24) % 3 == 0)),
    }


def class_maps() -> list[tuple[np.ndarray, np.ndarray]]:
    """Predicted and true classes of five; 255 does not count, class 4 is never there nor found."""
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(3):
        field = gaussian_filter(rng.normal(size=(40, 52)), 5)
        truth = np.digitize(field, np.quantile(field, (0.3, 0.55, 0.9)))
        found = np.where(rng.random(truth.shape) < 0.2, rng.integers(0, 4, truth.shape), truth)
        truth = np.where(rng.random(truth.shape) < 0.05, 255, truth)
        pairs.append((found, truth))
    return pairs


def photograph_saliency() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth, uint8, by name: contrast to the whole picture and to its border, against Otsu's objects."""
    coins, camera, cat = data.coins().astype(float), data.camera()[::2, ::2].astype(float), data.chelsea().astype(float)
    rim = np.concatenate([cat[:8].reshape(-1, 3), cat[-8:].reshape(-1, 3)]).mean(0)
    found = {
        "coins": np.abs(gaussian_filter(coins, 3) - coins.mean()),
        "camera": np.abs(camera - camera.mean()),
        "cat": np.linalg.norm(gaussian_filter(cat, (4, 4, 0)) - rim, axis=-1),
    }
    gray = {"coins": gaussian_filter(coins, 1), "camera": -gaussian_filter(camera, 2), "cat": cat[..., 0]}
    return {
        name: (
            np.round(255 * values / values.max() * 0.9).astype(np.uint8),
            _gray(gray[name] > threshold_otsu(gray[name])),
        )
        for name, values in found.items()
    }


def photograph_classes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Found and true classes, as `class_maps` has them: gray levels of a photograph, and of the same without detail."""
    pairs = []
    for photograph in (data.coins(), data.camera()[::2, ::2], data.chelsea()[..., 1]):
        smooth = np.round(gaussian_filter(photograph.astype(float), 4))
        levels = np.quantile(photograph, (0.3, 0.6, 0.9))
        truth = np.digitize(smooth, levels)
        truth[:6] = 255
        pairs.append((np.digitize(photograph, levels), truth))
    return pairs


def _gray(mask: np.ndarray) -> np.ndarray:
    return (mask * 255).astype(np.uint8)
