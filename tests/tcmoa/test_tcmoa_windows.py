"""Windows by one gather: the same as rolling and cutting, forth and back, with gradients; biases of several tables at once."""

import pytest
import torch
from einops import rearrange
from timm.layers import RelPosBias

from fusion.layers.mae import MAE
from fusion.models.tcmoa.windows import ALIGNMENT, WindowOrder, run_block, window_biases, windowed_block


def rolled(tokens, window, shift):
    tokens = torch.roll(tokens, (-shift, -shift), dims=(1, 2))
    return rearrange(tokens, "b (i p) (j q) c -> (b i j p q) c", p=window, q=window)


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (12, 8)])
@pytest.mark.parametrize("shift", [0, 2, 3])
def test_one_gather_is_a_roll_and_a_cut(size, shift):
    tokens = torch.randn(3, *size, 5)
    order = WindowOrder(tokens, 4)
    flat = tokens.flatten(0, 2)
    inside = order.move(flat, None, shift)
    assert torch.equal(inside, rolled(tokens, 4, shift))
    assert torch.equal(order.move(inside, shift, None), flat)
    assert torch.equal(order.move(inside, shift, 1), rolled(tokens, 4, 1))
    assert torch.equal(order.move(inside[: flat.shape[0] // 3], shift, None), tokens[0].flatten(0, 1))
    assert order.move(inside, shift, shift) is inside


def test_gradients_go_back_to_where_the_tokens_came_from():
    tokens = torch.randn(2 * 8 * 4, 3, dtype=torch.float64, requires_grad=True)
    order = WindowOrder(torch.empty(2, 8, 4, 3), 4)
    ways = [(None, 2), (2, None), (0, 2), (None, 0)]
    for way in ways:
        torch.autograd.gradcheck(lambda x, way=way: order.move(x, *way).sin(), (tokens,))
    torch.autograd.gradgradcheck(lambda x: order.move(x, None, 2).sin(), (tokens,))


@pytest.mark.parametrize("window", [(14, 14), (4, 4), (3, 5)])
def test_biases_are_those_of_the_tables_and_aligned(window):
    positions = [RelPosBias(window, 2) for _ in range(3)]
    biases = window_biases(positions, torch.float32)
    for position, bias in zip(positions, biases, strict=True):
        assert torch.equal(bias, position.get_bias())
        assert all(stride % ALIGNMENT == 0 for stride in bias.stride()[:-1]) and bias.stride(-1) == 1
    weight = torch.randn_like(biases[0])
    (sum(biases) * weight).sum().backward()
    got = [position.relative_position_bias_table.grad.clone() for position in positions]
    for position, gradient in zip(positions, got, strict=True):
        position.relative_position_bias_table.grad = None
        (position.get_bias() * weight).sum().backward()
        torch.testing.assert_close(gradient, position.relative_position_bias_table.grad)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_block_in_windows_is_the_block_of_timm_on_each_window(recompute):
    torch.manual_seed(0)
    block = MAE(8, 14, 16, 1, 2, 16, 1, 2).blocks[0]
    x = torch.randn(6, 16, 16, requires_grad=True)
    expected = block(x)
    torch.testing.assert_close(run_block(block, x, recompute_mlp=recompute), expected)
    (wanted,) = torch.autograd.grad(expected.sin().sum(), x)
    (got,) = torch.autograd.grad(run_block(block, x, recompute_mlp=recompute).sin().sum(), x)
    torch.testing.assert_close(got, wanted)
    tokens = torch.randn(1, 8, 12, 16)
    windows = block(rolled(tokens, 4, 2).view(-1, 16, 16)).flatten(0, 1)
    order = WindowOrder(tokens, 4)
    torch.testing.assert_close(windowed_block(block, tokens, 4, 2).flatten(0, 2), order.move(windows, 2, None))


def test_a_stream_in_a_short_type_stays_in_it():
    torch.manual_seed(0)
    block = MAE(8, 14, 16, 1, 2, 16, 1, 2).blocks[0]
    x = torch.randn(6, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        short, long = run_block(block, x.bfloat16()), run_block(block, x)
    assert short.dtype == torch.bfloat16 and long.dtype == torch.float32
    torch.testing.assert_close(short.float(), block(x), atol=0.05, rtol=0.02)
