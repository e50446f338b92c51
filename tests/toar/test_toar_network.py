"""Shapes, parameter counts and gradients by the specification of T-OAR."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from fusion.errors import ConfigError
from fusion.models.toar import (
    BaseFusionNetwork,
    BrightnessGradientLoss,
    DynamicPrompt,
    Regulation,
    StaticPrompt,
    TextConcat,
    TextSum,
    color,
)
from fusion.models.toar.dynamic_conv import dynamic_conv2d
from fusion.training.schedules import ramp_cosine


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_parameter_counts_are_those_of_the_paper():
    base, regulation = BaseFusionNetwork(), Regulation(DynamicPrompt)
    assert (count(base.infrared), count(base.fusion), count(base.reconstruction)) == (8_264, 20_672, 31_168 + 1_513)
    assert count(base) == 69_881
    assert {count(site) for site in regulation.sites.values()} == {572_320}
    assert len(regulation.sites) == 6
    assert count(regulation) == 5_794_240


def test_every_sample_is_convolved_with_its_own_kernel():
    features, kernels = images(3, 2, 7, 6), images(3, 4, 2, 3, 3, seed=1)
    expected = torch.cat([F.conv2d(x[None], k, padding=1) for x, k in zip(features, kernels, strict=True)])
    torch.testing.assert_close(dynamic_conv2d(features, kernels), expected)


def test_fusion_weighs_features_by_their_gradients():
    """Eqs. 1 and 2 written out for one image."""
    fusion = BaseFusionNetwork().fusion
    infrared, visible = images(1, 8, 9, 8), images(1, 8, 9, 8, seed=1)
    both = torch.cat([infrared, visible], 1)
    padded = F.pad(both, (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    gx, gy = (F.conv2d(padded, k.expand(16, 1, 3, 3), groups=16) for k in (kernel, kernel.t()))
    gradient = gx.abs() + gy.abs()
    channels = fusion.mean_channels(gradient.mean((2, 3))) + fusion.max_channels(gradient.flatten(2).max(2).values)
    mean, peak = F.avg_pool2d(gradient, 3, 1, 1), F.max_pool2d(gradient, 3, 1, 1)
    places = fusion.mean_places(mean) + fusion.max_places(peak)
    expected = torch.sigmoid(channels[:, :, None, None] * places) * both
    torch.testing.assert_close(fusion(infrared, visible), expected)


@pytest.mark.parametrize("size", [(16, 24), (33, 17), (3, 5)])
def test_any_size_comes_back(size):
    network = BaseFusionNetwork().eval()
    fused = network(images(2, 1, *size), images(2, 1, *size, seed=1))
    assert fused.shape == (2, 1, *size)
    assert fused.min() >= 0 and fused.max() <= 1


def test_regulation_starts_as_the_identity_and_reaches_every_parameter_once_it_has_left():
    torch.manual_seed(0)
    network, regulation = BaseFusionNetwork().eval(), Regulation(DynamicPrompt, text_dim=32)
    a, b, text = images(2, 1, 16, 16), images(2, 1, 16, 16, seed=1), torch.randn(2, 32)
    adapted = regulation.adapt(text)
    seen = []

    def regulate(source, index, features):
        seen.append((source, index))
        return features + regulation(source, index, features, adapted)

    assert torch.equal(network(a, b, regulate), network(a, b))
    assert seen == [(source, index) for source in ("infrared", "visible") for index in range(3)]
    for site in regulation.sites.values():
        torch.nn.init.normal_(site.last.weight)
    network(a, b, regulate).square().mean().backward()
    grads = {name: parameter.grad for name, parameter in regulation.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert all(grads[name].abs().sum() > 0 for name in grads if "adapters" in name or "predictor" in name)


@pytest.mark.parametrize(
    ("site", "moved"),
    [
        (DynamicPrompt, {"text": True, "image": True}),
        (partial(DynamicPrompt, image_statistics=False), {"text": True, "image": False}),
    ],
)
def test_kernels_depend_on_what_the_model_of_table_4_lets_them_see(site, moved):
    torch.manual_seed(0)
    one = site(channels=4, text_dim=6)
    features, text = images(1, 4, 8, 8), torch.randn(1, 6)
    kernels = one.kernels(features, text)
    assert kernels.shape == (1, 4, 4, 3, 3)
    assert torch.equal(one.kernels(features, text + 1), kernels) != moved["text"]
    assert torch.equal(one.kernels(features + images(1, 4, 8, 8, seed=3), text), kernels) != moved["image"]


@pytest.mark.parametrize(("site", "reads"), [(StaticPrompt, False), (TextSum, True), (TextConcat, True)])
def test_models_of_table_4_without_dynamic_kernels(site, reads):
    torch.manual_seed(0)
    regulation = Regulation(partial(site, zero_conv=False), text_dim=6, channels=4, sites=1).eval()
    assert not regulation.adapters, "only predicted kernels need an adapted instruction"
    features = images(1, 4, 8, 8)
    prompts = [regulation("visible", 0, features, regulation.adapt(torch.full((1, 6), x))) for x in (0.0, 1.0)]
    assert prompts[0].shape == features.shape
    assert torch.equal(*prompts) != reads


def test_losses_are_equations_3_to_5():
    fused, infrared, visible = (images(2, 1, 9, 7, seed=s) for s in range(3))
    terms = BrightnessGradientLoss()(fused, infrared, visible)
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def gradient(x):
        return sum(F.conv2d(x, k[None, None], padding=1).abs() for k in (kernel, kernel.t()))

    stronger = torch.maximum(gradient(infrared), gradient(visible))
    torch.testing.assert_close(terms["gradient"], (gradient(fused) - stronger).abs().mean())
    torch.testing.assert_close(terms["brightness"], 0.2 * (fused - torch.maximum(infrared, visible)).abs().mean())


def test_color_comes_back_and_grey_has_neutral_chroma():
    picture = images(1, 3, 6, 6)
    luma, chroma = color.split(picture)
    torch.testing.assert_close(color.join(luma, chroma), picture, atol=2e-4, rtol=0)
    torch.testing.assert_close(
        color.split(picture[:, :1].expand(-1, 3, -1, -1))[1], torch.full((1, 2, 6, 6), 128 / 255)
    )


def test_learning_rate_climbs_for_20_epochs_and_falls_for_80():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    factor = ramp_cosine(optimizer, steps_per_epoch=10, epochs=100).lr_lambdas[0]
    rates = {epoch: 1e-3 * factor(10 * epoch) for epoch in (0, 10, 20, 60, 100)}
    assert rates == pytest.approx({0: 1e-4, 10: 5.5e-4, 20: 1e-3, 60: 5.5e-4, 100: 1e-4})
    assert factor(105) == factor(100) and factor(19) == factor(10) != factor(20), "one value per epoch"
    with pytest.raises(ConfigError, match=r"scheduler\.start_lr=0\.1"):
        ramp_cosine(optimizer, 10, 100, start_lr=0.1)


def test_impossible_networks_are_refused():
    for config, message in (
        ({"blocks": 0}, "blocks=0"),
        ({"channels": 3}, "channels=3"),
        ({"fusion": "sum"}, "gradient"),
    ):
        with pytest.raises(ConfigError, match=message):
            BaseFusionNetwork(**config)


def test_a_folded_norm_is_the_norm():
    from fusion.models.toar.conv_residual import conv_bn

    torch.manual_seed(0)
    layer = conv_bn(3, 5)
    layer.train()
    for _ in range(3):
        layer(torch.randn(2, 3, 9, 11))
    torch.nn.init.normal_(layer[1].weight)
    torch.nn.init.normal_(layer[1].bias)
    layer.eval()
    images = torch.randn(1, 3, 7, 8, requires_grad=True)
    got, expected = layer(images), torch.nn.Sequential(*layer)(images)
    torch.testing.assert_close(got, expected)
    (ours,), (theirs,) = (torch.autograd.grad(x.square().sum(), images) for x in (got, expected))
    torch.testing.assert_close(ours, theirs)
    assert list(layer.state_dict()) == list(torch.nn.Sequential(*layer).state_dict())
