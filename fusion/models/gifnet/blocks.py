"""The parts of a GIFNet branch: windowed attention beside a depthwise convolution, with the whole picture's statistics."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fusion.layers.borders import crop, reflect
from fusion.layers.gradient_flow import require_grad_with
from fusion.models.gifnet.revised_norm import RevisedLayerNorm


def reflect_conv(channels_in: int, channels_out: int, size: int = 3, groups: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size by reflecting the border."""
    return nn.Conv2d(channels_in, channels_out, size, padding=size // 2, groups=groups, padding_mode="reflect")


def keep_variance(*parts: nn.Module) -> None:
    """Draw the convolutions of `parts` such that features keep their size; those with one output start ten times smaller."""
    for module in (module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.out_channels == 1:  # under a tanh, which is not to start saturated
            module.weight.data.mul_(0.1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class BranchBlock(nn.Module):
    """Parameters of one block of one branch; `attend` in network.py lets two of them meet.

    Args:
        dim: channels.
        depth: blocks per branch, which the initial weights depend on.
        mlp_ratio: hidden width of the MLP over `dim`.
    """

    def __init__(self, dim: int, depth: int, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        self.dim = dim
        self.norm = RevisedLayerNorm(dim)
        self.qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.conv = reflect_conv(dim, dim, 5, groups=dim)
        self.proj = nn.Conv2d(dim, dim, 1)
        hidden = int(mlp_ratio * dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))
        self._init_weights((8 * depth) ** -0.25)

    def _init_weights(self, gain: float) -> None:
        query_key, value = self.qkv.weight.data[: 2 * self.dim], self.qkv.weight.data[2 * self.dim :]
        convs: list[Any] = [self.conv, self.proj, self.mlp[0], self.mlp[2]]
        parts = [(query_key, 1.0), (value, gain), *((module.weight, gain) for module in convs)]
        for weight, factor in parts:
            out, fan = weight.shape[0], weight[0].numel()
            fan_out = out * weight[0, 0].numel()
            nn.init.trunc_normal_(weight, std=factor * math.sqrt(2 / (fan + fan_out)))
        for module in (self.qkv, *convs):
            nn.init.zeros_(module.bias)

    def keys_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values alone, of a branch that another one queries; each `(B, C, H, W)`."""
        assert self.qkv.bias is not None
        keys, values = F.conv2d(normed, self.qkv.weight[self.dim :], self.qkv.bias[self.dim :]).chunk(2, dim=1)
        return keys, values

    def finish(self, x: Tensor, attended: Tensor, rescale: Tensor, rebias: Tensor) -> Tensor:
        """Residual of the attention, then of the MLP; all `(B, C, H, W)`."""
        x = x + attended * rescale + rebias
        return x + self.mlp(x)


def window_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window: int, shift: int) -> Tensor:
    """Attention within windows, without a mask between what the reflected border brings together.

    Args:
        q, k, v: `(B, C, H, W)`.
        bias: `(heads, window^2, window^2)`.
        window: side of the windows.
        shift: pixels that the grid lies to the left of and above the image.

    Returns:
        `(B, C, H, W)`.
    """
    height, width = q.shape[-2:]
    q = require_grad_with(q, bias)
    right, bottom = (-(side + shift) % window for side in (width, height))
    stacked = reflect(torch.stack([q, k, v], 1).flatten(1, 2), shift, right, shift, bottom)
    rows = stacked.shape[-2] // window
    q, k, v = rearrange(stacked, "b (s n c) (i p) (j r) -> s (b i j) n (p r) c", s=3, n=len(bias), p=window, r=window)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
    image = rearrange(attended, "(b i j) n (p r) c -> b (n c) (i p) (j r)", b=len(stacked), i=rows, p=window)
    return crop(image, height, width, shift)
