"""TC-MoA as users meet it: sizes, steering, colors, parameters, what trains and what does not."""

from functools import partial

import pytest
import torch
from torch import nn

from fusion import losses
from fusion.errors import ConfigError, WeightsError
from fusion.layers.mae import MAE
from fusion.models.tcmoa import TaskCustomizedLoss, TCMoA, UnifiedLoss
from fusion.models.tcmoa.convert import convert_official
from fusion.models.tcmoa.losses import mutual_information_regularization
from fusion.models.tcmoa.placement import site_blocks
from fusion.moe.adapters import AdaptFormer, FrozenBackbone, MixtureOfAdapters, PromptControl, SingleAdapter
from fusion.moe.adapters.fusion_conv import BottleneckConv
from fusion.moe.adapters.residual_conv import ResidualConv
from fusion.moe.experts import MLPExperts
from fusion.moe.routers import NoisyTopKRouter

OFFICIAL_BASE, OFFICIAL_LARGE = 3_865_197, 11_345_544  # trainable parameters of the released classes
SOURCE_EMBEDDINGS = {"base": 19_968, "large": 43_008}  # which the released code does not register


def build(adapter=MixtureOfAdapters, num_experts=4, top_k=2, tau=2, **settings) -> TCMoA:
    torch.manual_seed(0)
    backbone = settings.pop("backbone", None) or MAE(8, 14, 48, 4, 3, 48, 4, 3)
    network = {"upsample": False, **settings.pop("network", {})}
    model = TCMoA(
        backbone, adapter, NoisyTopKRouter, MLPExperts, settings.pop("loss", TaskCustomizedLoss()), num_experts=num_experts,
        top_k=top_k, tau=tau, network=network, **settings,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if "w_gate" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


def pair(height=112, width=112, batch=1):
    generator = torch.Generator().manual_seed(height * width)
    return tuple(torch.rand(batch, 3, height, width, generator=generator) for _ in range(2))


@pytest.mark.parametrize("name", ["base", "large"])
def test_trainable_parameters_are_the_released_code_s(name):
    sizes = {"base": (768, 12, 12), "large": (1024, 24, 16)}[name]
    with torch.device("meta"):
        model = build(backbone=MAE(16, 14, *sizes, 512, 8, 16), tau=4, network={"upsample": True})
    trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    embeddings = sum(count for n, count in trainable.items() if n.endswith("source_embedding"))
    assert embeddings == SOURCE_EMBEDDINGS[name]
    assert sum(trainable.values()) - embeddings == {"base": OFFICIAL_BASE, "large": OFFICIAL_LARGE}[name]
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == {"base": 111_907_328, "large": 329_541_376}[name]


@pytest.mark.parametrize("policy", ["arbitrary", "pad", "tile448"])
@pytest.mark.parametrize("size", [(112, 112), (100, 131), (7, 9), (113, 30)])
def test_any_size_comes_back(policy, size):
    output = build(size_policy=policy).fuse(*pair(*size), task="mff")
    assert output.fused.shape == (1, 3, *size)
    assert output.fused.isfinite().all() and output.fused.min() >= 0 and output.fused.max() <= 1


def test_tiles_agree_with_their_windows():
    model = build(size_policy="tile448")
    a, b = pair(449, 460)
    fused = model.fuse(a, b, task="vif").fused
    corner = model.fuse(a[..., -448:, -448:], b[..., -448:, -448:], task="vif").fused
    torch.testing.assert_close(fused[..., -448:, -448:], corner, atol=1e-5, rtol=0)


def test_evaluation_is_deterministic_and_independent_of_the_batch():
    model = build()
    a, b = pair(112, 224, batch=3)
    together = model.fuse(a, b, task="mef").fused
    assert torch.equal(together, model.fuse(a, b, task="mef").fused)
    alone = torch.cat([model.fuse(a[i], b[i], task="mef").fused for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_prompts_and_routings_are_reported_per_site():
    output = build()(*pair(112, 224), "vif")
    assert output.sites == ["encoder.1", "encoder.3", "decoder.1", "decoder.3"]
    for prompts, routing in zip(output.prompts, output.routings, strict=True):
        assert prompts.shape == (1, 2, 14, 28) and prompts.min() > 0 and prompts.max() < 1
        assert routing.shape == (1, 14, 28) and routing.weights.shape == (14 * 28, 4)


def test_prompt_control_steers_and_is_neutral_by_default():
    model = build()
    a, b = torch.full((3, 112, 112), 0.9), torch.full((3, 112, 112), 0.1)
    plain = model.fuse(a, b, task="vif").fused
    assert torch.equal(model.fuse(a, b, task="vif", alpha=1.0, beta=0.0).fused, plain)
    assert not torch.equal(model.fuse(a, b, task="vif", beta=0.3).fused, plain)
    one_site = model.fuse(a, b, task="vif", beta=0.3, sites=["decoder.3"]).fused
    assert not torch.equal(one_site, plain) and not torch.equal(one_site, model.fuse(a, b, task="vif", beta=0.3).fused)
    with pytest.raises(ConfigError, match="encoder.1"):
        model.fuse(a, b, task="vif", beta=0.3, sites=["encoder.0"])


def test_alpha_zero_weighs_both_sources_alike():
    model = build(source_embedding := partial(MixtureOfAdapters, source_embedding="none"))
    assert source_embedding.keywords
    a, b = pair()
    one = model(a, b, "vif", alpha=0.0)
    other = model(b, a, "vif", alpha=0.0)
    # With prompts of one half and no embeddings the first fusion does not know which source is which.
    site = model.network.encoder.sites["1"]
    tokens = torch.randn(2, 1, 2, 2, 48)
    half = PromptControl(alpha=0.0)
    forward, backward = site(tokens[0], tokens[1], 0, half), site(tokens[1], tokens[0], 0, half)
    torch.testing.assert_close(forward.a - 0.5 * tokens[0], backward.a - 0.5 * tokens[1])
    assert one.fused.shape == other.fused.shape


def test_residual_fusion_starts_as_a_weighted_mean():
    adapter = partial(MixtureOfAdapters, fusion_layer="residual", source_embedding_std=0.0)
    site = build(adapter).network.encoder.sites["1"]
    a, b = torch.randn(2, 1, 2, 3, 48)
    out = site(a, b, 0, PromptControl())
    p_a, p_b = out.prompts.unsqueeze(-1).unbind(1)
    fused = (p_a * a + p_b * b) / (p_a + p_b)
    torch.testing.assert_close(out.a, (fused + a) / 2)
    torch.testing.assert_close(out.b, (fused + b) / 2)


def test_residual_fusion_gains_by_what_the_sources_show():
    conv = ResidualConv(48, num_tasks=3)
    nn.init.normal_(conv[2].weight, std=0.1)
    x, embedding, total = torch.randn(2, 5, 6, 48), torch.zeros(48), torch.full((2, 5, 6, 1), 1.2)
    quiet, loud = 0.1 * torch.randn(2, 5, 6, 48), 3 * torch.randn(2, 5, 6, 48)
    plain = BottleneckConv.forward(conv, x)
    torch.testing.assert_close(conv(x, loud, total, embedding, 1), x / 1.2 + plain)  # no gain yet
    with torch.no_grad():
        conv.gain_weight[1, :, 1] = 0.3  # the difference
    added = [conv(x, difference, total, embedding, 1) - x / 1.2 for difference in (quiet, loud)]
    assert added[0].norm() < 0.8 * added[1].norm()
    torch.testing.assert_close(conv(x, loud, total, embedding, 0), x / 1.2 + plain)  # another task
    mixed = conv(x, loud, total, embedding, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(mixed, conv(x, loud, total, embedding, 1))
    mixed.sum().backward()
    assert conv.gain_weight.grad[1].abs().min() > 0 and not conv.gain_weight.grad[[0, 2]].any()


def test_router_mix_of_one_task_is_that_task():
    model = build()
    a, b = pair()
    for task in ("vif", "mef", "mff"):
        mixed = model.fuse(a, b, task="vif", task_weights={task: 1.0}).fused
        torch.testing.assert_close(mixed, model.fuse(a, b, task=task).fused, atol=1e-6, rtol=0)
        listed = model.fuse(a, b, task="vif", site_tasks=[task] * 4).fused
        assert torch.equal(listed, model.fuse(a, b, task=task).fused)
    half = model.fuse(a, b, task="vif", task_weights={"vif": 0.5, "mff": 0.5}).fused
    assert not torch.equal(half, model.fuse(a, b, task="vif").fused)


def test_unseen_tasks_borrow_a_router_and_unknown_ones_are_named():
    model = build()
    a, b = pair()
    assert torch.equal(model.fuse(a, b, task="medical").fused, model.fuse(a, b, task="vif").fused)
    with pytest.raises(ConfigError, match="task 'thermal' is not one of vif, mef, mff"):
        model.fuse(a, b, task="thermal")


def test_yuv_keeps_the_chroma_of_the_visible_picture():
    from fusion.layers.color import split_luma

    model = build(color="yuv")
    a = torch.rand(1, 3, 112, 112) * 0.3 + 0.35
    b = torch.rand(1, 1, 112, 112).expand(-1, 3, -1, -1) * 0.3 + 0.35
    with torch.no_grad():
        model.network.backbone.decoder_pred.weight.mul_(0.05)  # luma near the middle, so that nothing is clipped
    fused = model.fuse(a, b, task="vif").fused
    torch.testing.assert_close(split_luma(fused)[1], split_luma(a)[1], atol=2e-3, rtol=0)


@pytest.mark.parametrize("adapter", [MixtureOfAdapters, SingleAdapter, AdaptFormer, FrozenBackbone])
def test_only_what_shall_train_moves(adapter):
    model = build(adapter).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    a, b = pair(112, 112, batch=2)
    batch = {"a": a, "b": b, "task": "vif"}
    sum(model.losses(model(a, b, "vif"), batch).values()).backward()
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved, "nothing trained"
    assert any("positions" in name for name in moved) == (adapter is not FrozenBackbone)
    in_backbone = {name for name in moved if ".backbone." in name}
    allowed = (
        {f"network.backbone.decoder_pred.{kind}" for kind in ("weight", "bias")} if adapter is FrozenBackbone else set()
    )
    assert in_backbone == allowed


@pytest.mark.parametrize("loss", [TaskCustomizedLoss(), UnifiedLoss(), TaskCustomizedLoss(weights="unit", mir="l1")])
@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_every_trainable_parameter_gets_a_gradient(loss, task):
    model = build(loss=loss).train()
    a, b = pair(112, 112, batch=2)
    output = model(a, b, task)
    for epoch in (0, 5):
        terms = loss(output, {"a": a, "b": b, "task": task}, epoch)
        assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # or DDP would wait for them


def test_prompts_can_learn_at_a_rate_of_their_own():
    model = build(prompt_lr_scale=5.0, optimizer=partial(torch.optim.AdamW, lr=1e-3))
    groups = model.parameter_groups(0.05)
    rates = {id(p): group.get("lr", 1e-3) for group in groups for p in group["params"]}
    site = model.network.encoder.sites["1"]
    assert rates[id(site.reduce.weight)] == rates[id(site.experts.w1)] == pytest.approx(5e-3)
    assert rates[id(site.alpha)] == rates[id(site.fuse[0].weight)] == pytest.approx(1e-3)
    assert len(rates) == sum(p.requires_grad for p in model.parameters())


def test_term_weights_replace_the_table_and_unknown_terms_are_named():
    a, b = pair(112, 112)
    output, batch = build()(a, b, "vif"), {"a": a, "b": b, "task": "vif"}
    plain = TaskCustomizedLoss()(output, batch, 5)
    more = TaskCustomizedLoss(term_weights={"vif": {"ssim": 20.0, "pixel": 0.0}})(output, batch, 5)
    assert more["ssim"].item() == pytest.approx(10 * plain["ssim"].item())
    assert "pixel" not in more and more["gradient"].item() == pytest.approx(plain["gradient"].item())
    with pytest.raises(ConfigError, match="vif.color is not one of vif.gradient"):
        TaskCustomizedLoss(term_weights={"vif": {"color": 1.0}})


def test_multi_focus_pictures_can_be_compared_with_both_sources():
    a, b = pair(112, 112)
    output, batch = build()(a, b, "mff"), {"a": a, "b": b, "task": "mff"}
    terms = TaskCustomizedLoss(term_weights={"mff": {"source_ssim": 2.0, "edge": 3.0}})(output, batch, 5)
    expected = 2 - losses.ssim(output.fused, a) - losses.ssim(output.fused, b)
    assert terms["source_ssim"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert terms["edge"].item() == pytest.approx(3 - 3 * losses.edge_preservation(output.fused, a, b).item(), rel=1e-6)
    target = losses.sharper_patches(a, b)
    assert terms["ssim"].item() == pytest.approx(3 - 3 * losses.ssim(output.fused, target).item(), rel=1e-6)


def test_mir_is_zero_for_complementary_prompts():
    model = build()
    output = model(*pair(), "vif")
    output.prompts = [torch.stack([p[:, 0], 1 - p[:, 0]], dim=1) for p in output.prompts]
    assert mutual_information_regularization(output).item() == pytest.approx(0, abs=1e-12)
    output.prompts = [torch.full_like(p, 0.6) for p in output.prompts]
    assert mutual_information_regularization(output).item() == pytest.approx(0.04, rel=1e-4)
    assert mutual_information_regularization(output, "l1").item() == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize(
    ("depth", "tau", "shift", "sites"),
    [
        (12, 4, None, [1, 5, 9]),  # base, as released
        (24, 4, None, [1, 5, 9, 13, 17, 21]),  # large, as released
        (8, 2, None, [1, 3, 5, 7]),
        (8, 8, None, [5]),
        (4, 1, None, [0, 1, 2, 3]),
        (8, 2, 1, [0, 2, 4, 6]),  # the released option for tau = 2
    ],
)
def test_site_placement(depth, tau, shift, sites):
    assert site_blocks(depth, tau, shift) == sites


def test_impossible_values_are_refused_by_name():
    config = {"num_experts": 4, "top_k": 5, "tau": 2, "backbone": {"depth": 4, "decoder_depth": 4}}
    with pytest.raises(ConfigError, match="model.top_k=5 must lie in 1..model.num_experts=4"):
        TCMoA.check_config(config)
    with pytest.raises(ConfigError, match=r"model.tau=3 must divide the number of blocks 4: one of \[1, 2, 4\]"):
        TCMoA.check_config(config | {"top_k": 2, "tau": 3})
    with pytest.raises(ConfigError, match="model.tau_shift=4 must lie in 0..1"):
        TCMoA.check_config(config | {"top_k": 2, "tau_shift": 4})
    with pytest.raises(ConfigError, match="model.size_policy=crop is not one of arbitrary, pad, tile448"):
        TCMoA.check_config(config | {"top_k": 2, "size_policy": "crop"})


def test_old_generation_of_official_names_loads_the_same(official_weights, parity_network):
    renames = {
        "decoder_blocks_MoA": "decoder_blocks_SSF_rgb",
        "blocks_MoA": "blocks_SSF_rgb",
        ".MoA.": ".mlp.",
        "dimReduction": "SE_en_linear",
        "modal_shifts": "SSF_beta",
        "de_FusionLayer": "de_projAdapter",
        "FusionLayer": "en_projAdapter",
    }
    old = {}
    for key, value in official_weights.items():
        name = key
        for current, former in renames.items():
            if current == "blocks_MoA" and "blocks_SSF_rgb" in name:
                continue
            if current == "FusionLayer" and "projAdapter" in name:
                continue
            name = name.replace(current, former)
        old[name] = value
    assert old.keys() != official_weights.keys()
    network = parity_network()
    converted = convert_official(old, network)
    for key, value in network.state_dict().items():
        assert torch.equal(converted[key], value), key


def test_checkpoints_without_source_embeddings_get_zeros(official_weights, parity_network):
    bare = {key: value for key, value in official_weights.items() if "modal_shifts" not in key}
    converted = convert_official(bare, parity_network())
    embeddings = [value for key, value in converted.items() if key.endswith("source_embedding")]
    assert len(embeddings) == 4 and not any(value.any() for value in embeddings)


def test_a_checkpoint_of_another_configuration_is_explained(official_weights, parity_network):
    with pytest.raises(WeightsError, match="missing .*check model.backbone, model.tau and model.num_experts"):
        convert_official({k: v for k, v in official_weights.items() if "blocks_MoA.0" not in k}, parity_network())


def test_what_the_backbone_loses_can_be_restored():
    a, _ = pair()
    lossy = build(FrozenBackbone)(a, a, "vif").fused
    assert (lossy - a).abs().mean() > 0.05  # a random backbone gives nothing back
    restored = build(FrozenBackbone, network={"restore": True})(a, a, "vif").fused
    torch.testing.assert_close(restored, a, atol=1e-4, rtol=0)
