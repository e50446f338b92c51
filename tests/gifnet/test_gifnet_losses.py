"""The objective against its formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from fusion.errors import ConfigError
from fusion.models.gifnet import GIFNetLoss
from fusion.models.gifnet.ms_ssim import WEIGHTS, ms_ssim, ssim_valid
from fusion.models.gifnet.source_weights import DenseNetWeights, FixedWeights, ImageGradientWeights, gradient_energy


def images(count=2, side=40, low=0.0, high=1.0):
    return torch.rand(count, 2, 1, side, side, generator=torch.Generator().manual_seed(side)) * (high - low) + low


def naive_ssim(x, y, spread):
    """Mean SSIM and contrast of one picture each, window by window."""
    size = min(11, *x.shape)
    window = torch.tensor([math.exp(-((i - size // 2) ** 2) / 4.5) for i in range(size)], dtype=torch.float64)
    window = torch.outer(window, window) / window.sum() ** 2
    c1, c2, values, contrasts = (0.01 * spread) ** 2, (0.03 * spread) ** 2, [], []
    for top in range(x.shape[0] - size + 1):
        for left in range(x.shape[1] - size + 1):
            p, q = (image[top : top + size, left : left + size].double() for image in (x, y))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p, var_q = (window * p * p).sum() - mean_p**2, (window * q * q).sum() - mean_q**2
            covariance = (window * p * q).sum() - mean_p * mean_q
            contrasts.append((2 * covariance + c2) / (var_p + var_q + c2))
            values.append(contrasts[-1] * (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1))
    return torch.stack(values).mean(), torch.stack(contrasts).mean()


@pytest.mark.parametrize("side", [8, 17])  # an even window that fills the picture, and one that fits in
def test_ssim_is_the_mean_over_windows_that_fit(side):
    x, y = images(1, side)[0][:, None]
    for ours, expected in zip(ssim_valid(x, y, 1.0), naive_ssim(x[0, 0], y[0, 0], 1.0), strict=True):
        assert ours.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("repeat_last", [False, True])
def test_ms_ssim_multiplies_the_scales(repeat_last):
    x, y = images(2, 40, -0.2, 1.0).unbind(1)
    scales, p, q = [], x, y
    for _ in WEIGHTS:
        scales.append([(value + 1) / 2 for value in ssim_valid(p, q, 1.0)])
        p, q = F.avg_pool2d(p, 2), F.avg_pool2d(q, 2)
    contrasts = math.prod(cs.item() ** w for (_, cs), w in zip(scales[:-1], WEIGHTS, strict=False))
    expected = contrasts * scales[-1][0].item() ** (WEIGHTS[-1] * (4 if repeat_last else 1))
    assert ms_ssim(x, y, 1.0, repeat_last).item() == pytest.approx(expected, rel=1e-5)
    assert ms_ssim(x, x, 1.0, repeat_last).item() == pytest.approx(1, abs=1e-5)


def test_range_is_guessed_from_the_first_picture():
    x, y = images(1, 20)[0][:, None]
    for scale, shift, spread in ((1, 0, 1.0), (1, -1, 2.0), (200, 0, 255.0)):
        first = x.clone() * scale + shift
        first[..., 0, 0] = scale + shift if shift == 0 else shift  # the extreme that decides
        assert ssim_valid(first, y)[0].item() == pytest.approx(ssim_valid(first, y, spread)[0].item(), abs=1e-6)


def test_gradient_energy_is_that_of_one_kernel_over_all_pairs_of_channels():
    features = torch.randn(2, 5, 9, 7)
    kernel = torch.full((3, 3), 1 / 8)
    kernel[1, 1] = -1
    response = F.conv2d(F.pad(features, (1,) * 4, mode="reflect"), kernel.expand(5, 5, 3, 3))
    assert gradient_energy(features).item() == pytest.approx(response.square().mean().item(), rel=1e-5)
    assert gradient_energy(torch.ones(1, 3, 1, 1)).item() == pytest.approx(0, abs=1e-9)


def test_densenet_weights_favour_the_picture_with_more_to_see(monkeypatch):
    from torchvision.models import densenet121

    torch.manual_seed(0)
    network = densenet121(weights=None)
    monkeypatch.setattr("fusion.models.gifnet.source_weights.load_densenet", lambda: network)
    weights = DenseNetWeights()
    detailed, flat = torch.rand(2, 1, 64, 64), torch.full((2, 1, 64, 64), 0.5)
    first, second = weights(detailed, flat)
    assert first > second and (first + second).item() == pytest.approx(1, abs=1e-6)
    maps, x = [], detailed.expand(-1, 3, -1, -1)
    for index, layer in enumerate(network.features):
        x = layer(x)
        if index in (3, 5, 7, 9, 10):
            maps.append(gradient_energy(x))
    assert weights.energy(detailed).item() == pytest.approx(torch.stack(maps).mean().item(), rel=1e-4)


def test_weights_without_a_network():
    detailed, flat = torch.rand(2, 1, 16, 16), torch.full((2, 1, 16, 16), 0.5)
    first, second = ImageGradientWeights()(detailed, flat)
    assert first > 0.9 and (first + second).item() == pytest.approx(1, abs=1e-6)
    assert [weight.item() for weight in FixedWeights(0.25)(detailed, flat)] == [0.25, 0.75]


def test_terms_of_both_tasks():
    (fused, target), (reconstruction, infrared) = images(2, 32).unbind(0)
    fused, target, reconstruction, infrared = (x[:, None] for x in (fused, target, reconstruction, infrared))
    loss = GIFNetLoss(FixedWeights(0.25), fusion=2.0, public=0.5)
    unsupervised = loss(fused, reconstruction, infrared, target)
    assert unsupervised["infrared_mse"].item() == pytest.approx(0.5 * F.mse_loss(fused, infrared).item())
    assert unsupervised["visible_mse"].item() == pytest.approx(1.5 * F.mse_loss(fused, target).item())
    supervised = loss(fused, reconstruction, None, target)
    assert supervised["fused_mse"].item() == pytest.approx(2 * F.mse_loss(fused, target).item())
    for terms in (unsupervised, supervised):
        expected = 0.5 * (1 - ms_ssim(reconstruction, target, None, repeat_last=True).item())
        assert terms["reconstruction_ssim"].item() == pytest.approx(expected)
        assert terms["reconstruction_mse"].item() == pytest.approx(0.5 * F.mse_loss(reconstruction, target).item())
    assert set(GIFNetLoss(FixedWeights(), public=0.0)(fused, reconstruction, None, target)) == {"fused_mse"}
    single = GIFNetLoss(FixedWeights(), similarity="ssim")(fused, reconstruction, None, target)
    assert single["reconstruction_ssim"].item() == pytest.approx(1 - ssim_valid(reconstruction, target)[0].item())
    with pytest.raises(ConfigError, match="model.loss.similarity=l1: expected one of ms_ssim, ssim"):
        GIFNetLoss(FixedWeights(), similarity="l1")
