"""The MAE backbone and its pretraining."""

from pathlib import Path

import pytest
import torch

from fusion.errors import ConfigError
from fusion.layers.mae import MAE
from fusion.layers.pos_embed import resize_pos_embed, sincos_pos_embed_2d
from fusion.models.mae import MAEPretraining
from fusion.models.mae.identity import patch_functions, start_as_identity
from fusion.models.mae.network import MaskedAutoencoder, sample_positions
from fusion.models.tcmoa.windows import windowed_block

GOLDEN = torch.load(Path(__file__).parents[1] / "data" / "tcmoa" / "pos_embed.pt", weights_only=True)


def test_position_table_is_the_released_one():
    assert torch.equal(sincos_pos_embed_2d(64, 14)[0], GOLDEN["base64"])
    with pytest.raises(ValueError, match="multiples of 4"):
        sincos_pos_embed_2d(66, 14)


@pytest.mark.parametrize("name", GOLDEN["resized"])
def test_transposed_resize_is_the_released_one(name):
    size = tuple(int(part[1:]) for part in name.split("_"))
    table = sincos_pos_embed_2d(64, 14)
    assert torch.equal(resize_pos_embed(table, size, transposed=True).reshape(1, -1, 64), GOLDEN["resized"][name])
    assert not torch.equal(resize_pos_embed(table, size).reshape(1, -1, 64), GOLDEN["resized"][name])


def test_sampled_positions_equal_resized_ones():
    table = sincos_pos_embed_2d(64, 14)
    steps = ((torch.arange(14) + 0.5) / 14 / 3 + 1 / 3) * 2 - 1  # the middle of three windows
    views = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)[None]
    expected = resize_pos_embed(table, (42, 42))[:, 14:28, 14:28].flatten(1, 2)
    torch.testing.assert_close(sample_positions(table, views), expected, atol=1e-5, rtol=0)


def test_windows_attend_to_themselves_alone():
    torch.manual_seed(0)
    block = MAE(8, 14, 48, 1, 3, 48, 1, 3).blocks[0].eval()
    tokens = torch.randn(1, 28, 28, 48)
    changed = tokens.clone()
    changed[:, :14, :14] = torch.randn(14, 14, 48)  # a constant would vanish in the norms
    with torch.no_grad():
        for shift, reached in ((0, (14, 14)), (7, None)):
            difference = windowed_block(block, tokens, 14, shift) - windowed_block(block, changed, 14, shift)
            touched = difference.abs().amax((0, 3)) > 1e-6
            if reached:
                assert touched[:14, :14].all() and not touched[14:].any() and not touched[:, 14:].any()
            else:
                assert touched[14:21, 14:21].all(), "rolled windows join neighbours"


def test_predict_undoes_patches():
    backbone = MAE(8, 14, 192, 1, 3, 192, 1, 3)
    start_as_identity(backbone)
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        prediction, mask = MaskedAutoencoder(backbone).eval()(images, 0.0)
    assert not mask.any()
    smooth = torch.nn.functional.avg_pool2d(images, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        prediction, _ = MaskedAutoencoder(backbone).eval()(smooth, 0.0)
    psnr = -10 * (prediction - smooth).square().mean().log10()
    assert psnr > 30, f"an identity start gives pictures back, not {psnr:.1f} dB"


def test_a_picture_passes_in_float32_under_autocast():
    torch.manual_seed(0)
    network = MaskedAutoencoder(MAE(8, 14, 192, 1, 3, 192, 1, 3)).eval()
    start_as_identity(network.backbone)  # blocks add nothing yet, so that only what surrounds them can round
    images = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        expected, _ = network(images, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = network(images, 0.0)
    torch.testing.assert_close(rounded, expected, atol=1e-5, rtol=0)


def test_unknown_losses_of_the_pretraining_are_refused():
    with pytest.raises(ConfigError, match="model.loss=l3 is not one of mse, log_mse, log_contrast"):
        MAEPretraining.check_config({"loss": "l3"})


def test_patch_functions_are_an_orthonormal_basis_with_luma_first():
    functions = patch_functions(8)
    torch.testing.assert_close(functions @ functions.t(), torch.eye(192), atol=1e-5, rtol=0)
    luma = functions[:64].view(64, 3, 64)
    assert torch.equal(luma[:, 0], luma[:, 1]) and torch.equal(luma[:, 0], luma[:, 2])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75])
def test_hidden_patches_do_not_reach_the_encoder(ratio):
    torch.manual_seed(0)
    network = MaskedAutoencoder(MAE(8, 14, 48, 2, 3, 48, 2, 3)).eval()
    images = torch.rand(1, 3, 112, 112)
    torch.manual_seed(1)
    prediction, mask = network(images, ratio)
    assert mask.shape == (1, 1, 112, 112)
    assert mask.mean().item() == pytest.approx(ratio, abs=0.01)
    torch.manual_seed(1)
    changed, _ = network(torch.where(mask.bool(), 1 - images, images), ratio)
    assert torch.equal(changed, prediction)


def test_every_parameter_of_the_pretraining_gets_a_gradient():
    network = MaskedAutoencoder(MAE(8, 14, 48, 2, 3, 48, 2, 3), max_zoom=4).train()
    prediction, _ = network(torch.rand(2, 3, 112, 112), 0.5)
    prediction.square().mean().backward()
    without = {n for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
