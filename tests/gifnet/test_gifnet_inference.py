"""The fast forward pass and the tiles against the plain network."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusion.models.gifnet.convert import convert_official
from fusion.models.gifnet.inference import FastGIFNet
from fusion.models.gifnet.moments import Moments
from fusion.models.gifnet.network import BRANCHES, GIFNetNetwork
from fusion.models.gifnet.strips import gathered_region, region
from fusion.models.gifnet.tiles import fuse_luma, plan


def plain(network, pair, main="dp", gate_scale=1.0):
    with torch.no_grad():
        return network(pair, main=main, gate_scale=gate_scale)[0]


@pytest.fixture
def luma():
    def make(height, width, batch=1):
        generator = torch.Generator().manual_seed(height * 1000 + width)
        small = torch.rand(batch, 2, 4, 4, generator=generator)
        return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)

    return make


@pytest.mark.parametrize("size", [(5, 5), (8, 9), (7, 30), (33, 66), (12, 16), (65, 63)])
@pytest.mark.parametrize("strip_pixels", [None, 1])
def test_fast_equals_plain_at_every_size(network, luma, size, strip_pixels):
    pair = luma(*size, batch=2)
    with torch.inference_mode():
        fast = FastGIFNet(network, strip_pixels=strip_pixels)(pair)
    torch.testing.assert_close(fast, plain(network, pair), atol=1e-5, rtol=0)


@pytest.mark.parametrize("main", BRANCHES)
@pytest.mark.parametrize("interaction", ["on", "one_way", "off"])
@pytest.mark.parametrize("own_v", [False, True])
def test_fast_equals_plain_in_every_variant(official_state, luma, main, interaction, own_v):
    network = GIFNetNetwork(interaction, aux_conv_own_v=own_v)
    network.load_state_dict(convert_official(official_state, network))
    pair = luma(26, 37)
    with torch.inference_mode():
        fast = FastGIFNet(network, main, gate_scale=0.7)(pair)
    torch.testing.assert_close(fast, plain(network, pair, main, 0.7), atol=1e-5, rtol=0)


def test_it_does_less_work(network, luma):
    pair, counts = luma(64, 64), []
    with torch.inference_mode():
        fast = FastGIFNet(network)
        for run in (lambda: network(pair), lambda: fast(pair)):
            with FlopCounterMode(display=False) as counter:
                run()
            counts.append(counter.get_total_flops())
    assert counts[1] < counts[0]


def test_a_picture_is_the_same_alone_and_in_a_batch(network, luma):
    pair = luma(31, 44, batch=3)
    with torch.inference_mode():
        fast = FastGIFNet(network)
        alone = torch.cat([fast(one) for one in pair.split(1)])
        torch.testing.assert_close(fast(pair), alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(70, 131), (96, 64), (67, 73)])
@pytest.mark.parametrize("interaction", ["on", "off"])
def test_tiles_agree_with_the_whole(official_state, luma, size, interaction):
    network = GIFNetNetwork(interaction)
    network.load_state_dict(convert_official(official_state, network))
    pair = luma(*size)
    pair[..., : size[0] // 2, :] *= 0.2  # statistics of tiles differ from those of the picture
    with torch.inference_mode():
        fast = FastGIFNet(network)
        tiled = fuse_luma(fast, pair, whole_pixels=1, tile=32)
        torch.testing.assert_close(tiled, fast(pair), atol=1e-5, rtol=0)
        naive = fast(pair[..., : size[0] // 2, :])
    assert (naive - tiled[..., : size[0] // 2, :]).abs().max() > 1e-3, "the statistics of the whole matter"


@pytest.mark.parametrize("window", [2, 4, 6])
def test_tiles_agree_with_the_whole_with_other_windows(window):
    torch.manual_seed(0)
    network = GIFNetNetwork(window=window, init="kaiming")  # keeps the signal, so that what a margin lacks is seen
    pair = torch.rand(1, 2, 60, 72)
    with torch.inference_mode():
        fast = FastGIFNet(network)
        torch.testing.assert_close(fuse_luma(fast, pair, whole_pixels=1, tile=24), fast(pair), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "side"), [(100, 200, 64), (64, 64, 64), (129, 65, 64), (5, 300, 100)])
def test_tiles_cover_every_pixel_once_with_the_margin_they_need(height, width, side):
    covered = torch.zeros(height, width)
    for tile in plan(height, width, side, window=8):
        top, bottom, left, right = tile.inner
        covered[top:bottom, left:right] += 1
        assert tile.outer[0] % 8 == 0 and tile.outer[2] % 8 == 0
        assert tile.outer[0] in (0, top - 24) and tile.outer[1] in (height, bottom + 24)
        assert tile.outer[1] - tile.outer[0] >= min(height, 8) and tile.outer[3] - tile.outer[2] >= min(width, 8)
    assert (covered == 1).all()


def test_moments_are_those_of_all_pieces_together():
    values = torch.randn(2, 40, 30, 7) * 3 + torch.tensor([50.0, -1.0]).view(2, 1, 1, 1)
    moments = Moments(2, values.device)
    for piece in (values[:, :13], values[:, 13:14], values[:, 14:14], values[:, 14:]):
        moments.add(piece)
    mean, std = moments.mean_std(0.0)
    torch.testing.assert_close(mean, values.double().mean((1, 2, 3)).float())
    torch.testing.assert_close(std, values.double().flatten(1).std(1, correction=0).float())


@pytest.mark.parametrize("bounds", [(-3, 9, -2, 11), (2, 7, 0, 8), (5, 14, 3, 14), (0, 9, -6, 9)])
def test_region_reflects_as_padding_does(bounds):
    x = torch.rand(2, 9, 9, 3)
    top, bottom, left, right = bounds
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (7, 7, 7, 7), mode="reflect").permute(0, 2, 3, 1)
    expected = padded[:, top + 7 : bottom + 7, left + 7 : right + 7]
    assert torch.equal(region(x, *bounds), expected)


def test_bfloat16_is_close(network, luma):
    pair = luma(40, 40)
    with torch.inference_mode():
        half = FastGIFNet(network, dtype=torch.bfloat16)(pair)
    assert half.dtype == torch.float32
    difference = (half - plain(network, pair)).abs()
    assert 0 < difference.mean() < 0.02


@pytest.mark.parametrize("bounds", [(0, 9, 0, 11), (-3, 12, -2, 15), (4, 14, -6, 5), (-8, 3, 3, 20)])
def test_a_region_by_indices_is_the_region_in_pieces(bounds):
    picture = torch.randn(2, 9, 11, 6)[..., 1:4]
    assert torch.equal(gathered_region(picture, *bounds), region(picture, *bounds))
