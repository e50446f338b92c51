"""Pyramids lose nothing at any size; box and guided filters are what they say."""

import numpy as np
import pytest
import torch

from fusion.errors import ConfigError
from fusion.layers.box import box, guided_filter, pool
from fusion.layers.pyramid import LaplacianPyramid, expand


@pytest.mark.parametrize("levels", [2, 5, 8])
@pytest.mark.parametrize("size", [(64, 96), (33, 77), (1, 5), (17, 20), (1, 1)])
def test_the_picture_comes_back(levels, size):
    pyramid, x = LaplacianPyramid(levels), torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    bands = pyramid(x)
    assert len(bands) == levels + 1
    assert [tuple(band.shape[-2:]) for band in bands[1:2]] == [tuple(-(-side // 2) for side in size)]
    torch.testing.assert_close(pyramid.inverse(bands), x, atol=1e-6, rtol=0)


def test_ramps_have_no_detail_and_bands_are_centred():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    for axis in (ramp, ramp.mT):
        detail = LaplacianPyramid(3)(axis)[0]
        assert detail[..., 8:-8, 8:-8].abs().max() < 1e-6  # a shifted grid would leave a staircase
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = expand(LaplacianPyramid(2).reduce(point), (33, 33))
    torch.testing.assert_close(spread, spread.flip(-1).flip(-2))


def test_values_of_one_reduction():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    taps = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(x[0, 0].numpy(), 2, mode="edge")
    filtered = np.array(
        [[(np.outer(taps, taps) * padded[i : i + 5, j : j + 5]).sum() for j in range(6)] for i in range(6)]
    )
    torch.testing.assert_close(LaplacianPyramid(2).reduce(x)[0, 0].double(), torch.tensor(filtered[::2, ::2]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"levels": 1}, "from 2 to 8"), ({"levels": True}, "whole"), ({"weights": "x"}, "no weights")],
)
def test_impossible_pyramids(settings, said):
    with pytest.raises(ConfigError, match=said):
        LaplacianPyramid(**settings)


def test_box_means_are_cut_at_the_border():
    x = torch.rand(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([x[..., max(i - 2, 0) : i + 3, max(3 - 2, 0) : 6].mean((-2, -1)) for i in range(7)], dim=-1)
    torch.testing.assert_close(box(x, 5)[..., 3], expected)
    torch.testing.assert_close(pool(x, 4)[..., 1, 2], x[..., 4:7, 8:9].mean((-2, -1)))


def test_guided_filter_keeps_edges_of_its_guide():
    guide = torch.zeros(1, 1, 32, 32)
    guide[..., 16:] = 1
    noisy = guide + 0.1 * torch.randn(guide.shape, generator=torch.Generator().manual_seed(0))
    smooth = guided_filter(guide, noisy, 6, 1e-4)
    assert (smooth - guide).abs().mean() < 0.02  # flat on both sides, and as steep as before between them
    assert smooth[..., 17].mean() - smooth[..., 14].mean() > 0.9
