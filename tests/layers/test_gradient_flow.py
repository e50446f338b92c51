"""What enters an attention whose position bias trains carries a gradient, whatever is frozen before it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion import load_model
from fusion.layers.gradient_flow import require_grad_with
from fusion.layers.mae import MAE
from fusion.models.gifnet.blocks import window_attention
from fusion.models.tcmoa.windows import windowed_block

TCMOA = ["weights=null", "backbone.weights=null"]
MODELS = {
    **{f"tcmoa, {adapter}": ("tcmoa_tiny", [f"model/adapter={adapter}", *(f"model.{o}" for o in TCMOA)], 112)
       for adapter in ("mixture", "mixture_residual", "single", "adaptformer", "none")},
    "tcmoa, doubled pictures": ("tcmoa_tiny", [*(f"model.{o}" for o in TCMOA), "model.network.upsample=true"], 56),
    "gifnet": ("gifnet", ["model.weights=null"], 32),
    "mae": ("mae", [], None),
}  # fmt: skip


class AttentionWatch:
    """Records of every attention call whether its bias trains and whether what it attends to carries a gradient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[bool, bool]] = []
        attention = F.scaled_dot_product_attention

        def watched(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any) -> Tensor:
            trains = attn_mask is not None and attn_mask.requires_grad and torch.is_grad_enabled()
            self.calls.append((trains, any(part.requires_grad for part in (query, key, value))))
            return attention(query, key, value, attn_mask=attn_mask, **rest)

        monkeypatch.setattr(F, "scaled_dot_product_attention", watched)

    @property
    def trained(self) -> int:
        """Calls whose bias trains; fails where one of them attends to what carries no gradient."""
        trained = [carries for trains, carries in self.calls if trains]
        assert all(trained), f"{trained.count(False)} of {len(trained)} would fail in the backward pass on CUDA"
        return len(trained)


@pytest.mark.parametrize(
    ("name", "checkpointing"),
    [(name, False) for name in MODELS] + [(name, True) for name in MODELS if name.startswith("tcmoa")],
)
def test_every_attention_with_a_trained_bias_sees_a_gradient(name, checkpointing, monkeypatch):
    model_name, overrides, side = MODELS[name]
    overrides = [*overrides, "++model.network.gradient_checkpointing=true"] if checkpointing else overrides
    model = load_model(model_name, overrides=overrides).train()
    watch = AttentionWatch(monkeypatch)
    side = side or model.example_size[0]
    entered = []
    for block in [m for n, m in model.named_modules() if n.endswith("norm1") and "blocks." in n]:
        block.register_forward_pre_hook(
            lambda _, inputs: entered.append(inputs[0].requires_grad or not torch.is_grad_enabled())
        )
    model(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side), "vif").fused.sum().backward()
    trained = watch.trained
    assert watch.calls
    if "none" in name or name == "mae":  # positions are not trained there, or there are none
        assert not trained
    else:
        assert trained
        assert all(entered)
    biases = [p for n, p in model.named_parameters() if "position" in n and p.requires_grad and "decoder." not in n]
    assert all(p.grad is not None for p in biases)


def test_without_gradients_nothing_changes(monkeypatch):
    watch = AttentionWatch(monkeypatch)
    model = load_model("tcmoa_tiny")
    model.fuse(torch.rand(3, 40, 60), torch.rand(3, 40, 60))
    assert watch.trained == 0 and watch.calls


def test_frozen_tokens_and_trained_bias_of_one_block(monkeypatch):
    watch = AttentionWatch(monkeypatch)
    torch.manual_seed(0)
    block = MAE(8, 14, 16, 1, 2, 16, 1, 2).requires_grad_(False).blocks[0]
    tokens, bias = torch.randn(1, 4, 4, 16), torch.randn(1, 2, 4, 4, requires_grad=True)
    windowed_block(block, tokens, 2, 1, bias).square().sum().backward()
    assert watch.trained == 1
    expected = bias.grad.clone()
    bias.grad = None
    tokens.requires_grad_()  # the same with tokens that carry a gradient of their own
    windowed_block(block, tokens, 2, 1, bias).square().sum().backward()
    torch.testing.assert_close(bias.grad, expected)


def test_frozen_pixels_and_trained_bias_of_a_gifnet_window(monkeypatch):
    watch = AttentionWatch(monkeypatch)
    q, k, v = torch.randn(3, 1, 4, 8, 8)
    bias = torch.randn(2, 16, 16, requires_grad=True)
    window_attention(q, k, v, bias, 4, 2).sum().backward()
    assert watch.trained == 1 and bias.grad.abs().sum() > 0


def test_the_identity_is_kept_where_nothing_is_needed():
    tensor, trained, fixed = torch.randn(2), torch.randn(2, requires_grad=True), torch.randn(2)
    assert require_grad_with(tensor, None) is tensor
    assert require_grad_with(tensor, fixed) is tensor
    assert require_grad_with(trained, trained) is trained
    with torch.no_grad():
        assert require_grad_with(tensor, trained) is tensor
    followed = require_grad_with(tensor, trained)
    assert followed.requires_grad and torch.equal(followed, tensor)
    followed.sum().backward()
    assert trained.grad is None and tensor.grad is None
