"""The released code of TC-MoA and GIFNet, imported from the user's copies, in the roles that the table compares."""

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

TRAINED = ("blocks_MoA", "blocks_SSF", "relative_position", "FusionLayer", "Alpha", "modal_shifts")
"""Parts of TC-MoA's parameter names that its training does not freeze."""


def check(tcmoa: Path | None, gifnet: Path | None) -> None:
    """End with one line where a folder does not hold the released code."""
    for option, folder, file in (("tcmoa", tcmoa, "model/ViT_MAE.py"), ("gifnet", gifnet, "GIFNet_model.py")):
        if folder is not None and not (folder / file).is_file():
            raise SystemExit(f"--{option} {folder}: no {file} there; give a clone of the released code")


def tcmoa(folder: Path, large: bool = True) -> nn.Module:
    """TC-MoA's released network with random weights; `model(a, b, task)` on ImageNet-normalised images gives
    its losses, by name, first."""
    layers = importlib.import_module("timm.layers")
    sys.modules.setdefault("timm.models.layers", layers)  # its name in the timm of the release
    if not hasattr(np, "float"):
        np.float = float  # type: ignore[attr-defined]  # its name in the NumPy of the release
    _as_stub("cv2", "matplotlib", "matplotlib.pyplot", "torchvision.transforms.functional_tensor")
    sys.path.insert(0, str(folder))
    build = importlib.import_module("model.ViT_MAE")
    config = {"interval_tau": 4, "tau_shift_value": 2, "task_num": 3, "upsample": True, "shift_window_size": 14}
    config |= {"warmup_epochs": 2}
    made = build.mae_vit_large_patch16 if large else build.mae_vit_base_patch16
    network: nn.Module = made(config)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(part in name for part in TRAINED))
    return network


def gifnet(folder: Path) -> Callable[[Tensor], Tensor]:
    """GIFNet's released forward pass with random weights, `(B, 2, H, W)` luma to `(B, 1, H, W)`; `.to` moves it."""
    _as_stub("cv2", "matplotlib", "matplotlib.pyplot", "scipy", "scipy.io", "seaborn")
    sys.path.insert(0, str(folder))
    settings = importlib.import_module("args").Args
    network = importlib.import_module("GIFNet_model").TwoBranchesFusionNet(
        settings.s, settings.n, settings.channel, settings.stride
    )

    class Run(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.eval()

        def forward(self, pair: Tensor) -> Tensor:
            shared = self.network.forward_encoder(pair[:, :1], pair[:, 1:])
            branch = self.network.forward_MultiTask_branch(fea_com_ivif=shared, fea_com_mfif=shared)
            return self.network.forward_mixed_decoder(shared, branch)

    return Run()


def _as_stub(*names: str) -> None:
    """Stand in for modules that the released files import and the measured part does not use."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            stub: Any = types.ModuleType(name)
            sys.modules[name] = stub
