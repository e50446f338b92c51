"""The network as users meet it: sizes, gates, colours, parameters, and experts that run only where they are wanted."""

from functools import partial

import pytest
import torch
from torch import nn

from fusion.api import load_model
from fusion.data.files.image import resize
from fusion.errors import ConfigError
from fusion.job.config import check, instantiate
from fusion.layers.color import split_luma
from fusion.models.moe_fusion import (
    AttentionLocal,
    MixtureOfLocalExperts,
    NoLocal,
    SaliencyAttention,
    SingleDecoder,
    UniformAttention,
)
from fusion.models.moe_fusion.image_routing import ImageRouter, dispatch_images
from fusion.moe.dispatch import combine
from fusion.moe.routers import NoisyTopKRouter, SoftmaxRouter, UniformRouter


def pair(height=32, width=48, batch=1):
    generator = torch.Generator().manual_seed(height * width)
    return tuple(torch.rand(batch, 3, height, width, generator=generator) for _ in range(2))


def on_meta(*overrides):
    from fusion.api import compose

    with torch.device("meta"):
        return instantiate(check(compose("predict", ["model=moe_fusion", *overrides], "model"), "model"))


def count(module, pattern=""):
    return sum(p.numel() for name, p in module.named_parameters() if pattern in name)


@pytest.mark.parametrize(
    ("override", "parameters"),
    [
        ("model.top_k=2", 16_482_916),  # released code
        # two mixtures of 2,328 x 4 and two gates of 614,400 x 4 each less; 32 channels less for decoders and gate
        ("model/local=none", 16_482_916 - 2 * 4_924_512 - 4 * 32 * 64 * 9 - 2 * 4 * 32 * 60 * 80),
        ("model/local=attention", 16_482_916 - 2 * 4_924_512 + 64 * 32 + 32),
        ("model/decoder=single", 16_482_916 - 2 * 4 * 768_000 - 3 * 115_457),
    ],
)
def test_parameters_are_the_released_code_s(override, parameters):
    assert count(on_meta(override).network) == parameters


def test_parameters_beside_gates_and_detectors():
    model = on_meta()
    assert count(model.network) - count(model.network, "router") == 508_516
    attention = model.attention
    extra = count(attention.cross_mix) + count(attention.attention_a) + count(attention.attention_b)
    assert extra == 197_636
    frozen = {name for name, p in attention.detector_a.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith(("backbone.body.conv1", "backbone.body.layer1")) for name in frozen)


@pytest.mark.parametrize("size", [(32, 48), (45, 31), (7, 9), (1, 3)])
def test_any_size_comes_back(build, size):
    output = build().fuse(*pair(*size))
    assert output.fused.shape == (1, 3, *size)
    assert output.fused.isfinite().all() and output.fused.min() >= 0 and output.fused.max() <= 1


@pytest.mark.parametrize("attention", [UniformAttention, SaliencyAttention])
@pytest.mark.parametrize("size", [(32, 48), (45, 31), (7, 9), (2, 1), (1, 1)])
def test_a_picture_is_the_same_alone_and_in_a_batch(build, size, attention):
    model = build(attention())
    a, b = pair(*size, batch=5)
    together = model.fuse(a, b)
    chosen = {
        (site, tuple(row.nonzero().squeeze(1).tolist()))
        for site, routing in zip(together.sites, together.routings, strict=True)
        for row in routing.weights
    }
    assert len(chosen) > 3 or min(size) < 3, "the pictures must not all choose the same experts"
    assert together.fused.shape == (5, 3, *size) and together.fused.isfinite().all()
    alone = torch.cat([model.fuse(a[i], b[i]).fused for i in range(5)])
    torch.testing.assert_close(together.fused, alone, atol=1e-5, rtol=0)


def test_the_released_network_at_a_size_that_is_not_its_own():
    model = load_model(
        "moe_fusion", overrides=["model/attention=saliency"], allow_untrained=True
    )  # gates of 16 million weights
    for name, parameter in model.named_parameters():
        if "w_gate" in name:
            nn.init.normal_(parameter, std=0.01)
    a, b = pair(61, 87, batch=2)
    together = model.fuse(a, b)
    assert together.fused.shape == (2, 3, 61, 87)
    for i in range(2):
        alone = model.fuse(a[i], b[i])
        torch.testing.assert_close(together.fused[i : i + 1], alone.fused, atol=1e-5, rtol=0)
        for ours, theirs in zip(alone.routings, together.routings, strict=True):
            torch.testing.assert_close(ours.weights[0], theirs.weights[i], atol=1e-5, rtol=0)


def test_the_fused_luma_keeps_its_grey_levels_under_bfloat16(build):
    model, (a, b) = build(), pair()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        luma = model(a, b).extras["luma"]
    assert luma.dtype == torch.float32 and (luma != luma.bfloat16().float()).float().mean() > 0.9
    torch.testing.assert_close(luma, model(a, b).extras["luma"], atol=0.02, rtol=0)


def test_fresh_gates_choose_the_same_experts_alone_and_in_a_batch(build):
    model = build()
    for name, parameter in model.named_parameters():
        if "w_gate" in name:
            nn.init.zeros_(parameter)  # all logits equal, as before training
    a, b = pair(batch=3)
    together = model.fuse(a, b)
    alone = [model.fuse(a[i], b[i]) for i in range(3)]
    for site in range(3):
        weights = torch.cat([output.routings[site].weights for output in alone])
        assert torch.equal(together.routings[site].weights, weights)


def test_routings_are_one_decision_per_image(build):
    output = build().fuse(*pair(batch=3))
    assert output.sites == ["foreground", "background", "global"]
    for routing in output.routings:
        assert routing.shape == (3,) and routing.weights.shape == (3, 4)
        assert ((routing.weights > 0).sum(1) == 2).all()
        torch.testing.assert_close(routing.weights.sum(1), torch.ones(3))


def test_gates_can_be_fixed(build):
    model = build()
    a, b = pair()
    visible_only = {"foreground": [1, 0, 0, 0], "background": [0.5, 0.5, 0, 0], "global": [0, 1, 0, 0]}
    output = model.fuse(a, b, gates=visible_only)
    for site, routing in zip(output.sites, output.routings, strict=True):
        assert routing.weights[0].tolist() == visible_only[site]
    other = model.fuse(a, b, gates={**visible_only, "global": [0, 0, 1, 0]})
    assert not torch.equal(output.fused, other.fused)
    with pytest.raises(ConfigError, match="site 'local' is not one of foreground, background, global"):
        model.fuse(a, b, gates={"local": [1, 0, 0, 0]})
    with pytest.raises(ConfigError, match="expected 4 numbers from 0"):
        model.fuse(a, b, gates={"global": [1, 0]})
    with pytest.raises(ConfigError, match="not all of them 0"):
        model.fuse(a, b, gates={"global": [0, 0, 0, 0]})


def test_local_experts_see_one_modality_each(build):
    model = build()
    a, b = pair()
    gates = {"foreground": [0.5, 0.5, 0, 0], "background": [0.5, 0.5, 0, 0]}
    local, seen = model.network.local, []
    local.register_forward_hook(lambda module, inputs, output: seen.append(output.features))
    model.fuse(a, b, gates=gates)
    model.fuse(a, 1 - b, gates=gates)
    assert torch.equal(seen[0], seen[1]), "the first half of the experts must not see the infrared image"
    gates = {site: [0, 0, 0.5, 0.5] for site in gates}
    model.fuse(a, b, gates=gates)
    model.fuse(a, 1 - b, gates=gates)
    assert not torch.equal(seen[2], seen[3])


@pytest.mark.parametrize(("local", "width"), [(NoLocal, 32), (AttentionLocal, 40), (None, 40)])
def test_local_parts_give_the_decoder_what_it_expects(build, local, width):
    model = build(local=local)
    assert model.network.decoder.experts[0][0].in_channels == width  # 2 x 4 x 4 dense channels, and the local ones
    assert model.fuse(*pair()).fused.isfinite().all()


def test_without_background_or_mixture_of_decoders(build):
    local = partial(MixtureOfLocalExperts, grid=(6, 8), background=False)
    output = build(local=local, decoder=partial(SingleDecoder, widths=(8, 8))).fuse(*pair())
    assert output.sites == ["foreground"]


def test_colours(build):
    a, b = pair()
    a = a * 0.3 + 0.35
    model = build()
    torch.nn.init.zeros_(model.network.decoder.experts[0][-1].weight)
    gates = {"global": [1, 0, 0, 0]}  # a flat luma that clips nothing
    torch.nn.init.constant_(model.network.decoder.experts[0][-1].bias, 0.5)
    fused = model.fuse(a, b, gates=gates).fused
    torch.testing.assert_close(split_luma(fused)[1], split_luma(a)[1], atol=2e-3, rtol=0)
    model.color = "gray"
    assert model.fuse(a, b, gates=gates).fused.shape == (1, 1, 32, 48)


def test_released_size_policy_resizes_and_resizes_back(build):
    model = build(work_size=[24, 32])
    a, b = pair(45, 31)
    fused = model.fuse(a, b).fused
    assert fused.shape == (1, 3, 45, 31)
    small = [resize(x, (24, 32)).clamp(0, 1) for x in (a, b)]  # as data are
    model.work_size = None
    expected = resize(model.fuse(*small).fused, (45, 31)).clamp(0, 1)
    torch.testing.assert_close(fused, expected)


@pytest.mark.parametrize("mix", ["log_sum_exp", "linear"])
def test_dispatch_of_images_equals_running_all_experts(mix):
    torch.manual_seed(0)
    experts = nn.ModuleList(nn.Conv2d(3, 2, 3, padding=1) for _ in range(4))
    inputs = [torch.rand(3, 3, 6, 7) for _ in range(4)]
    weights = torch.tensor([[0.3, 0.0, 0.7, 0.0], [0.0, 0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4]])
    dense = combine(torch.stack([e(x) for e, x in zip(experts, inputs, strict=True)]), weights, mix)
    torch.testing.assert_close(dispatch_images(experts, inputs, weights, mix), dense)


def test_unused_experts_cost_nothing_in_use_and_have_zero_gradients_in_training():
    calls = []
    experts = nn.ModuleList(nn.Conv2d(3, 2, 1) for _ in range(3))
    for index, expert in enumerate(experts):
        expert.register_forward_hook(lambda m, x, y, index=index: calls.append((index, len(x[0]))))
    x, weights = torch.rand(2, 3, 4, 4), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    with torch.no_grad():
        dispatch_images(experts, [x] * 3, weights)
    assert calls == [(0, 2), (1, 1)]
    dispatch_images(experts, [x] * 3, weights).sum().backward()
    assert all(p.grad is not None for p in experts.parameters())
    assert not any(p.grad.any() for p in experts[2].parameters()) and experts[1].weight.grad.any()


@pytest.mark.parametrize("resample", ["bilinear", "area"])
@pytest.mark.parametrize("router", [NoisyTopKRouter, SoftmaxRouter, UniformRouter])
def test_image_router_takes_any_size_and_router(resample, router):
    gate = ImageRouter(3, (4, 5), 4, 2, router, resample).eval()
    for size in ((4, 5), (33, 17), (2, 2)):
        routing = gate(torch.rand(2, 3, *size))
        assert routing.weights.shape == (2, 4)
        torch.testing.assert_close(routing.weights.sum(1), torch.ones(2))


def test_bilinear_view_at_the_released_size_is_the_released_one():
    features = torch.rand(1, 2, 48, 64)
    gate = ImageRouter(2, (12, 16), 4, 2, NoisyTopKRouter)
    theirs = nn.functional.interpolate(features, scale_factor=0.25, mode="bilinear", align_corners=True)
    assert torch.equal(gate.view(features), theirs)


def test_impossible_values_are_refused_by_name():
    from fusion.api import compose

    def refuse(override, message):
        with pytest.raises(ConfigError, match=message):
            check(compose("predict", ["model=moe_fusion", override], "model"), "model")

    refuse("model.top_k=5", r"model\.top_k=5 must lie in 1\.\.model\.num_experts=4")
    refuse("model.num_experts=3", r"model\.num_experts=3 must be even")
    refuse("model.color=rgb", r"model\.color=rgb is not one of visible, gray")
    refuse("model.work_size=[480]", r"model\.work_size=\[480\]: expected height and width")
    refuse("model.local.grid=[0,4]", r"model\.local.*expected rows and columns")
    refuse("model.decoder.resample=max", r"model\.decoder.*resample=max is not one of bilinear, area")
    refuse("model.loss.mask=none", r"model\.loss\.mask=none is not one of boxes, attention")
    refuse("model.attention.join=sum", r"model\.attention\.join=sum is not one of max, conv")
    refuse("model.attention.detector.backbone=vgg", r"model\.attention\.detector\.backbone=vgg is not one of resnet18")
    refuse("+model.attention.detector.anchor=3", r"unknown key 'model\.attention\.detector\.anchor'")
    check(compose("predict", ["model=moe_fusion", "model.num_experts=3", "model/local=none"], "model"), "model")


def test_uniform_attention_outside_of_its_range_is_refused():
    with pytest.raises(ConfigError, match="expected a number in"):
        UniformAttention(1.5)
