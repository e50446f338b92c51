"""Networks and golden values of the MoE-Fusion tests.

tests/data/moe_fusion holds outputs of the released fusion head at 64x96 with random weights (made on the CPU in float32);
decoder experts that no golden case uses are left out of the weights. `FUSION_REFERENCE_DIR` may point to a folder with
the full set (`parity/moe_fusion/*.pt`).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.models.moe_fusion import (
    MixtureOfGlobalExperts,
    MixtureOfLocalExperts,
    MoEFusion,
    MoEFusionLoss,
    UniformAttention,
)
from fusion.models.moe_fusion.convert import convert_official
from fusion.models.moe_fusion.network import MoEFusionNetwork
from fusion.moe.routers import NoisyTopKRouter

GOLDEN = Path(__file__).parents[1] / "data" / "moe_fusion"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Outputs of the released code, in evaluation and in training with zero and with recorded noise."""
    return torch.load(GOLDEN / "golden.pt", weights_only=True)


@pytest.fixture(scope="session")
def official_weights() -> dict[str, torch.Tensor]:
    """State dict of the released head; experts 0 and 2 of the decoder are zeros."""
    state = torch.load(GOLDEN / "weights.pt", weights_only=True)
    for expert in (0, 2):
        for key in [key for key in state if key.startswith("DecoderMoE.experts.1.")]:
            state[key.replace("experts.1.", f"experts.{expert}.")] = torch.zeros_like(state[key])
    return state


@pytest.fixture
def router() -> Callable[..., NoisyTopKRouter]:
    """The released code's router."""
    return partial(NoisyTopKRouter, noise_eps=0.01, threshold=0.0)


@pytest.fixture
def parity_network(official_weights, router) -> MoEFusionNetwork:
    """Our network with the golden weights; the grids are those of the released code at 64x96."""
    network = MoEFusionNetwork(
        partial(MixtureOfLocalExperts, grid=(16, 24)), partial(MixtureOfGlobalExperts, grid=(8, 12)), router
    )
    network.load_state_dict(convert_official(official_weights, network))
    return network.eval()


@pytest.fixture
def build(router) -> Callable[..., MoEFusion]:
    """`build(**settings)`: a small model whose gates tell images apart."""

    def make(attention=None, local=None, decoder=None, **settings) -> MoEFusion:
        torch.manual_seed(0)
        model = MoEFusion(
            attention or UniformAttention(),
            local or partial(MixtureOfLocalExperts, grid=(6, 8)),
            decoder or partial(MixtureOfGlobalExperts, grid=(3, 4), widths=(8, 8, 8)),
            router,
            settings.pop("loss", MoEFusionLoss()),
            network={"channels": 4, **settings.pop("network", {})},
            **settings,
        )
        for name, parameter in model.named_parameters():
            if "w_gate" in name:
                torch.nn.init.normal_(parameter)
            elif parameter.shape == (1,):  # an output's bias: fresh networks are dark, and all dark pictures are equal
                torch.nn.init.constant_(parameter, 0.5)
        return model.eval()

    return make
