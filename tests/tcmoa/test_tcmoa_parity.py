"""Our TC-MoA against outputs of the released code."""

import os
from pathlib import Path

import pytest
import torch

from fusion.models.tcmoa.losses import TaskCustomizedLoss

TASKS = ("vif", "mef", "mff")
REFERENCE = os.environ.get("FUSION_REFERENCE_DIR")


def images(network, case):
    """The golden inputs are ImageNet-normalised; ours are in [0, 1]."""
    return tuple(network.normalize.inverse(case[key]) for key in ("a", "b"))


def total(output, a, b, task, epoch):
    return sum(TaskCustomizedLoss()(output, {"a": a, "b": b, "task": task}, epoch).values())


@pytest.mark.parametrize("index", range(3), ids=TASKS)
def test_fused_prompts_gates_and_losses(golden, parity_network, index):
    case = golden("eval_112x112")
    network = parity_network(case["upsample"])
    a, b = images(network, case)
    with torch.no_grad():
        output = network(a, b, index)
    expected = case[f"task{index}"]
    torch.testing.assert_close(output.fused, expected["fused"], atol=5e-6, rtol=0)
    encoder_a, encoder_b, decoder_a, decoder_b = expected["prompts"]
    prompts = torch.stack([torch.cat([encoder_a, decoder_a]), torch.cat([encoder_b, decoder_b])], dim=2)[..., 0]
    assert output.sites == ["encoder.1", "encoder.5", "decoder.1", "decoder.5"]
    for ours, theirs in zip(output.prompts, prompts, strict=True):
        torch.testing.assert_close(ours.flatten(2), theirs, atol=5e-6, rtol=0)
    for site, routing in enumerate(output.routings):
        gates = expected["gates"][site]
        torch.testing.assert_close(routing.weights, torch.where(gates > 1e-4, gates, 0.0), atol=5e-6, rtol=0)
        torch.testing.assert_close(routing.importance, expected["importance"][site], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(routing.load, expected["load"][site].float(), atol=1e-4, rtol=1e-5)
    for epoch in (0, 5):
        loss = case[f"loss_task{index}_epoch{epoch}"]["loss"]
        assert total(output, a, b, TASKS[index], epoch).item() == pytest.approx(loss, rel=2e-6)


def test_non_square_batch_with_the_released_position_code(golden, parity_network):
    case = golden("eval_112x224_b2")
    network = parity_network(case["upsample"])
    a, b = images(network, case)
    for index, task in enumerate(TASKS):
        with torch.no_grad():
            output = network(a, b, index)
        for epoch in (0, 5):
            assert total(output, a, b, task, epoch).item() == pytest.approx(case["loss"][f"{index}_{epoch}"], rel=2e-6)
        if task == "mef":  # kept in half precision to keep the repository small
            torch.testing.assert_close(output.fused, case["fused"].float(), atol=3e-4, rtol=0)
    network.pos_embed_official = False
    with torch.no_grad():
        assert (network(a, b, 1).fused - case["fused"].float()).abs().max() > 1e-2  # the scrambled positions do matter


@pytest.mark.parametrize("epoch", [0, 5])
@pytest.mark.parametrize("index", range(3), ids=TASKS)
def test_gradients(golden, parity_network, index, epoch):
    case = golden("gradients")
    network = parity_network(noise=False).train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    a, b = images(network, case)
    loss = total(network(a, b, index), a, b, TASKS[index], epoch)
    loss.backward()
    expected = case[f"task{index}_epoch{epoch}"]
    assert loss.item() == pytest.approx(expected["loss"], rel=2e-6)
    ours = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    for name, norm in expected["grad_norms"].items():
        if f"backbone.{name}" in ours:
            assert ours[f"backbone.{name}"].norm().item() == pytest.approx(norm, rel=1e-4), name
    site, theirs = "encoder.sites.1.", expected["grads"]
    pairs = [
        (site + "reduce.weight", theirs["blocks_MoA.0.dimReduction.weight"]),
        (site + "router.w_gate", theirs["blocks_MoA.0.MoA.w_gate"]),
        (site + "experts.w1", torch.stack([theirs[f"blocks_MoA.0.MoA.experts.{i}.fc1.weight"].t() for i in range(4)])),
        (site + "experts.b2", torch.stack([theirs[f"blocks_MoA.0.MoA.experts.{i}.fc2.bias"] for i in range(4)])),
        (site + "norm1.weight", theirs["blocks_MoA.0.norm1.weight"]),
        (site + "fuse.1.weight", theirs["FusionLayer.0.conv2.weight"]),
        (site + "alpha", theirs["Alpha_encoder"][0]),
        (site + "source_embedding", expected["modal_shift_grads"]["blocks_MoA.0"].view(3, 2, -1)),
        ("decoder.sites.1.fuse.2.weight", theirs["de_FusionLayer.0.conv3.weight"]),
        (
            "encoder.positions.0.relative_position_bias_table",
            theirs["en_relative_position.0.relative_position_bias_table"],
        ),
        (
            "decoder.positions.0.relative_position_bias_table",
            theirs["de_relative_position.0.relative_position_bias_table"],
        ),
        ("backbone.decoder_pred.bias", theirs["decoder_pred.bias"]),
    ]
    for name, gradient in pairs:
        error = (ours[name] - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-5, f"{name}: {error:.2e} of the largest"


if REFERENCE:

    @pytest.mark.parametrize("index", range(3), ids=TASKS)
    @pytest.mark.parametrize("size", ["up1_112x112", "up1_448x224", "up1_112x224_b2", "up0_224x224"])
    def test_every_reference_size(parity_network, size, index):
        case = torch.load(Path(REFERENCE) / "parity" / "tcmoa" / f"eval_{size}.pt", weights_only=True)
        network = parity_network(case["upsample"])
        a, b = images(network, {"a": case["img_rgb"], "b": case["img_t"]})
        with torch.no_grad():
            output = network(a, b, index)
        torch.testing.assert_close(output.fused, case[f"task{index}"]["fused"], atol=5e-6, rtol=0)
        for epoch in (0, 5):
            loss = case[f"loss_task{index}_epoch{epoch}"]["loss"]
            assert total(output, a, b, TASKS[index], epoch).item() == pytest.approx(loss, rel=2e-6)
