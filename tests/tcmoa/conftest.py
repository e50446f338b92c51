"""Networks and golden values of the TC-MoA tests.

tests/data/tcmoa holds outputs of the released code at a tiny size with random weights (made on the CPU in float32).
`FUSION_REFERENCE_DIR` may point to a folder with the full set (`parity/tcmoa/*.pt`); without it the small copies are the test.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.layers.mae import MAE
from fusion.models.tcmoa.convert import convert_official
from fusion.models.tcmoa.network import TCMoANetwork
from fusion.moe.adapters import MixtureOfAdapters
from fusion.moe.experts import MLPExperts
from fusion.moe.routers import NoisyTopKRouter

GOLDEN = Path(__file__).parents[1] / "data" / "tcmoa"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Loads one golden file by name."""
    return lambda name: torch.load(GOLDEN / f"{name}.pt", weights_only=True)


@pytest.fixture(scope="session")
def official_weights(golden: Callable[[str], Any]) -> dict[str, torch.Tensor]:
    """State dict of the released classes at the golden size, with the source embeddings beside it."""
    return golden("weights")


@pytest.fixture
def parity_network(official_weights: dict[str, torch.Tensor]) -> Callable[..., TCMoANetwork]:
    """Builds our network with the golden weights and the released code's quirks."""

    def build(upsample: bool = True, noise: bool = True) -> TCMoANetwork:
        router = partial(NoisyTopKRouter, noise=noise)
        adapter = MixtureOfAdapters(num_experts=4, top_k=2, num_tasks=3, router=router, expert=MLPExperts)
        backbone = MAE(16, 14, 64, 8, 4, 32, 8, 4)
        network = TCMoANetwork(backbone, adapter, tau=4, upsample=upsample, pos_embed_official=True)
        network.load_state_dict(convert_official(official_weights, network))
        return network.eval()

    return build
