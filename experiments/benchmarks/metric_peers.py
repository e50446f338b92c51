"""Other Python code for the same metrics, called the way its own scripts call it, for metrics.py to time.

scikit-image, torchmetrics and kornia come with the platform's development tools. The two toolboxes that the field uses
are not packaged: clone them and say where, `--ivif-zoo DIR` (RollingPlain/IVIF_ZOO) and `--cddfuse DIR`
(Zhaozixiang1228/MMIF-CDDFuse); they want scipy, scikit-learn and OpenCV. Functions that compute something else under a
metric's name are left out: CE, QNCIE and TE of IVIF_ZOO, PSNR of CDDFuse. Some differ in detail: borders, a sum or a mean.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Peer:
    """A function of another library.

    Attributes:
        library: whose it is.
        metric: ours of the same definition.
        run: computes it for the triple at hand.
    """

    library: str
    metric: str
    run: Callable[[], Any]


def find_peers(images: list[torch.Tensor], zoo: Path | None, cddfuse: Path | None) -> list[Peer]:
    """Everything that runs here, for a gray triple a, b, fused of uint8 `(1, 1, H, W)`; failures are printed."""
    warnings.simplefilter("ignore")  # of peers that divide by zero in flat places
    np.seterr(all="ignore")
    found = _packaged(images)
    arrays = [x[0, 0].numpy() for x in images]
    for folder, build in ((zoo, _ivif_zoo), (cddfuse, _cddfuse)):
        if folder is not None:
            found += build(folder, arrays)
    return [peer for peer in found if _works(peer)]


def _works(peer: Peer) -> bool:
    try:
        peer.run()
    except Exception as error:  # whatever a peer does, the others are timed
        print(f"{peer.library} {peer.metric} left out: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def _packaged(images: list[torch.Tensor]) -> list[Peer]:
    import kornia.metrics
    import torchmetrics.functional.image as tm
    from skimage.metrics import normalized_mutual_information, structural_similarity

    a, b, f = (x.float() for x in images)
    u, v, w = (x[0, 0].numpy() for x in images)
    smooth = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return [
        Peer("scikit-image", "ssim", lambda: [structural_similarity(w, x, **smooth) for x in (u, v)]),
        Peer("scikit-image", "nmi", lambda: [normalized_mutual_information(w, x, bins=256) for x in (u, v)]),
        Peer("kornia", "ssim", lambda: [kornia.metrics.ssim(f, x, 11, 255.0).mean() for x in (a, b)]),
        Peer(
            "torchmetrics",
            "ssim",
            lambda: [tm.structural_similarity_index_measure(f, x, data_range=255.0) for x in (a, b)],
        ),
        Peer(
            "torchmetrics",
            "ms_ssim",
            lambda: [tm.multiscale_structural_similarity_index_measure(f, x, data_range=255.0) for x in (a, b)],
        ),
        Peer("torchmetrics", "vif", lambda: [tm.visual_information_fidelity(f, x) for x in (a, b)]),
        Peer("torchmetrics", "psnr", lambda: [tm.peak_signal_noise_ratio(f, x, data_range=255.0) for x in (a, b)]),
    ]


def _module(folder: Path, name: str) -> ModuleType:
    file = next(folder.rglob(f"{name}.py"), None)
    if file is None:
        raise SystemExit(f"{folder}: no {name}.py in this clone")
    sys.path.insert(0, str(file.parent))
    return importlib.import_module(name)


def _ivif_zoo(folder: Path, arrays: list[np.ndarray]) -> list[Peer]:
    """Functions of Metric_torch.py with the types that eval_torch.py gives them."""
    module = _module(folder, "Metric_torch")
    tensors = tuple(torch.from_numpy(x).float() for x in arrays)
    whole, single = (tuple(x.astype(kind) for x in arrays) for kind in (np.int32, np.float32))
    calls: dict[str, tuple[str, tuple[Any, ...]]] = {
        **{name: (name.lower(), tensors[2:]) for name in ("EN", "SD", "SF", "AG", "EI")},
        **{name: (name.lower(), tensors) for name in ("PSNR", "MSE", "VIF", "CC", "SCD", "Nabf", "Qy", "Qcb")},
        **{name: (name.lower(), whole) for name in ("MI", "NMI")},
        **{name: (name.lower(), single) for name in ("Qabf", "SSIM", "MS_SSIM")},
    }
    return [
        Peer("IVIF_ZOO", own, partial(getattr(module, f"{name}_function"), *given))
        for name, (own, given) in calls.items()
    ]


def _cddfuse(folder: Path, arrays: list[np.ndarray]) -> list[Peer]:
    """Methods of utils/Evaluator.py, which takes the fused image first, as float32 gray levels."""
    evaluator = _module(folder, "Evaluator").Evaluator
    a, b, f = (x.astype(np.float32) for x in arrays)
    alone = [Peer("CDDFuse", name.lower(), partial(getattr(evaluator, name), f)) for name in ("EN", "SD", "SF", "AG")]
    names = {"MI": "mi", "MSE": "mse", "CC": "cc", "SCD": "scd", "VIFF": "vif", "Qabf": "qabf", "SSIM": "ssim"}
    both = [Peer("CDDFuse", own, partial(getattr(evaluator, name), f, a, b)) for name, own in names.items()]
    return alone + both
