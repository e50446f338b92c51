"""Routers, experts, dispatch and balance against the released code and against their definitions."""

from pathlib import Path

import pytest
import torch

from fusion.moe.balance import balance_loss, squared_cv
from fusion.moe.dispatch import combine, dispatch
from fusion.moe.experts import ConvExperts, LowRankExperts, MLPExperts
from fusion.moe.routers import NoisyTopKRouter, SoftmaxRouter, UniformRouter
from fusion.moe.routing import Routing

GOLDEN = torch.load(Path(__file__).parents[1] / "data" / "tcmoa" / "mixture.pt", weights_only=True)


def official_parts() -> tuple[NoisyTopKRouter, MLPExperts]:
    state = GOLDEN["state"]
    router, experts = NoisyTopKRouter(16, 4, 2, num_tasks=3), MLPExperts(16, 4)
    router.load_state_dict({key: state[key] for key in ("w_gate", "w_noise")})
    stacked = {}
    for short, kind in (("w", "weight"), ("b", "bias")):
        for layer in (1, 2):
            rows = [state[f"experts.{i}.fc{layer}.{kind}"] for i in range(4)]
            stacked[f"{short}{layer}"] = torch.stack([row.t() if kind == "weight" else row for row in rows])
    experts.load_state_dict(stacked)
    return router, experts


@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_mixture_of_the_released_code(case, mode, monkeypatch):
    expected, task = GOLDEN["cases"][case], int(case[4])
    router, experts = official_parts()
    router.train("train" in case)
    if expected["noise"]:
        monkeypatch.setattr(router, "draw_noise", lambda logits: expected["noise"][0])
    tokens = GOLDEN["x"].clone().requires_grad_()
    routing = router(tokens, task)
    mixed = dispatch(experts, tokens, routing.weights, mode=mode)
    gates = expected["gates_pre_threshold"]
    torch.testing.assert_close(routing.weights, torch.where(gates > 1e-4, gates, 0.0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(routing.importance, gates.sum(0), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(routing.load, expected["load"].float(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(mixed, expected["y"], atol=2e-6, rtol=1e-5)
    assert 1e-3 * balance_loss([routing]).item() == pytest.approx(expected["aux"].item(), rel=1e-5)


def test_task_specific_banks_differ_and_one_router_serves_all():
    tokens = torch.randn(20, 8)
    bank = NoisyTopKRouter(8, 4, 2, num_tasks=3).eval()
    torch.nn.init.normal_(bank.w_gate)
    assert not torch.equal(bank(tokens, 0).weights, bank(tokens, 1).weights)
    shared = NoisyTopKRouter(8, 4, 2, num_tasks=3, task_specific=False).eval()
    torch.nn.init.normal_(shared.w_gate)
    assert len(shared.w_gate) == 1
    assert torch.equal(shared(tokens, 0).weights, shared(tokens, 2).weights)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_top_k_gates_sum_to_one_over_k_experts(k):
    router = NoisyTopKRouter(8, 4, k, threshold=0.0)
    torch.nn.init.normal_(router.w_gate)
    for training in (True, False):
        weights = router.train(training)(torch.randn(50, 8)).weights
        assert ((weights > 0).sum(1) == k).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(50))


def test_load_is_the_probability_of_being_chosen():
    torch.manual_seed(0)
    router = NoisyTopKRouter(4, 4, 2)
    torch.nn.init.normal_(router.w_gate)
    tokens = torch.randn(1, 4)
    clean = tokens @ router.w_gate[0]
    std = torch.nn.functional.softplus(tokens @ router.w_noise[0]) + router.noise_eps
    loads, chosen = [], []
    for _ in range(4000):
        routing = router(tokens)
        loads.append(routing.load)
        chosen.append((routing.weights[0] > 0).float())
    torch.testing.assert_close(torch.stack(loads).mean(0), torch.stack(chosen).mean(0), atol=0.03, rtol=0)
    assert (clean / std).isfinite().all()


def test_task_weights_mix_gates():
    router = NoisyTopKRouter(8, 4, 2, num_tasks=3).eval()
    torch.nn.init.normal_(router.w_gate)
    tokens = torch.randn(30, 8)
    mixed = router(tokens, torch.tensor([0.25, 0.0, 0.75]))
    expected = 0.25 * router(tokens, 0).weights + 0.75 * router(tokens, 2).weights
    torch.testing.assert_close(mixed.weights, expected)
    torch.testing.assert_close(router(tokens, torch.tensor([0.0, 1.0, 0.0])).weights, router(tokens, 1).weights)
    with pytest.raises(ValueError, match="at least one task weight"):
        router(tokens, torch.zeros(3))


def test_softmax_and_uniform_routers_use_every_expert():
    tokens = torch.randn(10, 8)
    softmax = SoftmaxRouter(8, 4, num_tasks=3)
    torch.nn.init.normal_(softmax.w_gate)
    for router in (softmax, UniformRouter(8, 4)):
        weights = router(tokens, 1).weights
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(10))


@pytest.mark.parametrize("mix", ["log_sum_exp", "linear"])
@pytest.mark.parametrize("bank", [MLPExperts, LowRankExperts])
def test_sparse_dispatch_equals_dense_with_gradients(bank, mix):
    experts = bank(8, 4)
    router = NoisyTopKRouter(8, 4, 2).eval()
    torch.nn.init.normal_(router.w_gate)
    grids = [torch.randn(2, 3, 5, 8).requires_grad_() for _ in range(2)]
    grids[1].data.copy_(grids[0].data)
    results = []
    for grid, mode in zip(grids, ("dense", "sparse"), strict=True):
        experts.zero_grad()
        result = dispatch(experts, grid, router(grid.flatten(0, 2)).weights, mix, mode)
        result.square().sum().backward()
        results.append((result, grid.grad, [p.grad.clone() for p in experts.parameters()]))
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(dense, sparse)


def test_conv_experts_see_their_neighbours_and_stay_apart():
    experts = ConvExperts(8, 3, hidden_ratio=8.0)
    tokens = torch.randn(1, 5, 5, 8).requires_grad_()
    outputs = experts(tokens)
    assert outputs.shape == (3, 1, 5, 5, 8)
    (gradient,) = torch.autograd.grad(outputs[0, 0, 2, 2].sum(), tokens)
    reach = gradient[0].abs().sum(-1) > 0  # two ReLUs may hide a neighbour, so look at many units
    assert reach[1:4, 1:4].all() and not reach[0].any() and not reach[:, 4].any()


def test_combine_does_not_overflow():
    outputs = torch.tensor([[[200.0]], [[100.0]]])
    weights = torch.tensor([[0.5, 0.5]])
    assert combine(outputs, weights).item() == pytest.approx(200 + torch.tensor(0.5).log().item())
    assert combine(outputs, torch.tensor([[0.0, 1.0]])).item() == 100


def test_combine_has_finite_gradients_at_zero_gates():
    weights = torch.tensor([[1.0, 0.0]]).requires_grad_()
    combine(torch.randn(2, 1, 4), weights).sum().backward()
    assert weights.grad.isfinite().all()


def test_balance_loss():
    even = Routing(torch.ones(4, 4) / 4, torch.ones(4), torch.ones(4))
    skewed = Routing(torch.eye(4), torch.tensor([4.0, 0, 0, 0]), torch.tensor([2.0, 2.0, 0, 0]))
    assert balance_loss([even]).item() == 0
    assert squared_cv(skewed.importance).item() == pytest.approx(4.0)
    assert balance_loss([even, skewed]).item() == pytest.approx(4.0 + squared_cv(skewed.load).item())
    assert balance_loss([skewed], "importance").item() == pytest.approx(4.0)
    assert balance_loss([skewed], "none").item() == 0
    assert squared_cv(torch.tensor([3.0])).item() == 0
    with pytest.raises(ValueError, match="importance_load"):
        balance_loss([even], "entropy")


def test_balance_gradient_reaches_gates_and_noise():
    router = NoisyTopKRouter(8, 4, 2)
    torch.nn.init.normal_(router.w_gate)
    balance_loss([router(torch.randn(40, 8))]).backward()
    assert router.w_gate.grad.abs().sum() > 0 and router.w_noise.grad.abs().sum() > 0
