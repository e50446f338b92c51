"""Our MoE-Fusion head and losses against outputs of the released code."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fusion.errors import WeightsError
from fusion.models.moe_fusion import MoEFusionLoss
from fusion.models.moe_fusion.convert import convert_official
from fusion.models.output import FusionOutput

SITES = {"foreground": "moe_fg", "background": "moe_bg", "global": "DecoderMoE"}
REFERENCE = os.environ.get("FUSION_REFERENCE_DIR")


def attention(golden):
    joined = torch.maximum(golden["att_rgb"], golden["att_tir"])
    return F.interpolate(joined, golden["im_r"].shape[-2:], mode="bilinear", align_corners=True)


def run(network, golden, case):
    """Forward and losses, with the case's noise."""
    if case.get("noise"):
        network.train()
        gates = (network.local.foreground.gate, network.local.background.gate, network.decoder.gate)
        for gate, noise in zip(gates, case["noise"], strict=True):
            gate.router.draw_noise = lambda logits, noise=noise: noise
    mixed = network(golden["im_r"], golden["im_i"], attention(golden))
    output = FusionOutput(
        mixed.features,
        routings=list(mixed.routings.values()),
        sites=list(mixed.routings),
        extras={
            "luma": mixed.features,
            "luma_a": golden["im_r"],
            "luma_b": golden["im_i"],
            "attention": attention(golden),
        },
    )
    return mixed, MoEFusionLoss()(output, {"boxes": case["boxes_in"]})


@pytest.mark.parametrize("mode", ["eval", "train_noise_zero", "train_noise_recorded"])
def test_fused_gates_and_losses(golden, parity_network, mode):
    case = golden[mode]
    with torch.no_grad():
        mixed, terms = run(parity_network, golden, case)
    torch.testing.assert_close(mixed.features, case["fused"], atol=1e-5, rtol=0)
    for site, theirs in SITES.items():
        expected = case["moe"][theirs]
        torch.testing.assert_close(mixed.routings[site].logits, expected["logits"], atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed.routings[site].weights, expected["gates"], atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed.routings[site].load, expected["load"], atol=1e-5, rtol=0)
    assert terms["gradient"].item() == pytest.approx(case["grad_loss"].item(), rel=1e-5)
    assert terms["pixel"].item() == pytest.approx(case["pixel_loss"].item(), rel=1e-5)
    assert terms["load"].item() == pytest.approx(case["aux_loss"].item(), rel=1e-5)
    assert sum(terms.values()).item() == pytest.approx(case["total"].item(), rel=1e-5)


def test_gradients(golden, official_weights, parity_network):
    case = golden["train_noise_recorded"]
    # A ReLU lies so near to its kink that rounding decides the side; this little off, it is the recorded one on any machine.
    _, terms = run(parity_network, {**golden, "im_r": golden["im_r"] * (1 - 3e-6)}, case)
    sum(terms.values()).backward()
    # Put their gradients under our names by converting a state dict of them.
    theirs = {key: torch.full_like(value, torch.nan) for key, value in official_weights.items()} | case["grads"]
    expected = convert_official(theirs, parity_network)
    checked = 0
    for name, parameter in parity_network.named_parameters():
        if expected[name].isnan().any():
            continue
        error = (parameter.grad - expected[name]).abs().max() / expected[name].abs().max().clamp_min(1e-3)
        assert error < 1e-4, f"{name}: {error:.1e} of the largest"
        checked += 1
    assert checked > 50
    for key, norm in case["grad_norms"].items():
        renamed = {k: torch.full_like(v, float(k == key)) for k, v in official_weights.items()}
        (name,) = [k for k, v in convert_official(renamed, parity_network).items() if v.any()]
        gradient = dict(parity_network.named_parameters())[name].grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), name


def test_weights_of_another_size_are_refused(official_weights, router):
    from functools import partial

    from fusion.models.moe_fusion import MixtureOfGlobalExperts, MixtureOfLocalExperts
    from fusion.models.moe_fusion.network import MoEFusionNetwork

    network = MoEFusionNetwork(
        partial(MixtureOfLocalExperts, grid=(12, 24)), partial(MixtureOfGlobalExperts, grid=(8, 12)), router
    )
    with pytest.raises(WeightsError, match="set the grids"):
        convert_official(official_weights, network)
    short = {key: value for key, value in official_weights.items() if "experts.3" not in key}
    with pytest.raises(WeightsError, match="lack"):
        convert_official(short, network)


if REFERENCE:

    def test_losses_at_the_released_size():
        case = torch.load(Path(REFERENCE) / "parity" / "moe_fusion" / "losses_480x640.pt", weights_only=True)
        extras = {"luma": case["fused"], "luma_a": case["rgb"], "luma_b": case["tir"], "attention": case["rgb"]}
        terms = MoEFusionLoss()(FusionOutput(case["fused"], extras=extras), {"boxes": case["boxes_in"]})
        assert terms["gradient"].item() == pytest.approx(case["grad_loss_w10"].item(), rel=1e-6)
        assert terms["pixel"].item() == pytest.approx(case["pixel_loss"].item(), rel=1e-6)
