"""Expert banks: N small networks with stacked weights, so that all of them run as one batched product.

A bank maps `(..., D)` tokens to `(N, ..., D)`. Banks with `tokenwise = True` can also run one expert on a selection of tokens,
which sparse dispatch needs.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def _stack_of_xavier(num_experts: int, fan_in: int, fan_out: int) -> nn.Parameter:
    bound = math.sqrt(6 / (fan_in + fan_out))
    return nn.Parameter(torch.empty(num_experts, fan_in, fan_out).uniform_(-bound, bound))


class MLPExperts(nn.Module):
    """Bottleneck MLPs: linear, ReLU, linear (TC-MoA Sec. 3.2; the released code's width is an eighth of D).

    Args:
        dim: channels D.
        num_experts: N.
        hidden_ratio: hidden width over D.
    """

    tokenwise = True
    no_weight_decay = ("b1", "b2")

    def __init__(self, dim: int, num_experts: int, hidden_ratio: float = 0.125) -> None:
        super().__init__()
        hidden = max(1, round(dim * hidden_ratio))
        self.w1, self.b1 = _stack_of_xavier(num_experts, dim, hidden), nn.Parameter(torch.zeros(num_experts, hidden))
        self.w2, self.b2 = _stack_of_xavier(num_experts, hidden, dim), nn.Parameter(torch.zeros(num_experts, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """`(..., D)` to `(N, ..., D)`."""
        flat = tokens.reshape(-1, tokens.shape[-1]).expand(len(self.w1), -1, -1)
        hidden = torch.baddbmm(self.b1.unsqueeze(1), flat, self.w1).relu()
        return torch.baddbmm(self.b2.unsqueeze(1), hidden, self.w2).view(-1, *tokens.shape)

    def run_one(self, index: int, tokens: Tensor) -> Tensor:
        """Expert `index` on `(T, D)` tokens."""
        hidden = torch.addmm(self.b1[index], tokens, self.w1[index]).relu()
        return torch.addmm(self.b2[index], hidden, self.w2[index])


class LowRankExperts(nn.Module):
    """Linear maps of low rank with a bias, without a non-linearity (as LoRA, Hu et al. 2022).

    Args:
        dim: channels D.
        num_experts: N.
        rank: rank of each map.
    """

    tokenwise = True

    def __init__(self, dim: int, num_experts: int, rank: int = 4) -> None:
        super().__init__()
        self.down, self.up = _stack_of_xavier(num_experts, dim, rank), _stack_of_xavier(num_experts, rank, dim)
        self.bias = nn.Parameter(torch.zeros(num_experts, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """`(..., D)` to `(N, ..., D)`."""
        flat = tokens.reshape(-1, tokens.shape[-1]).expand(len(self.down), -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(1), flat @ self.down, self.up).view(-1, *tokens.shape)

    def run_one(self, index: int, tokens: Tensor) -> Tensor:
        """Expert `index` on `(T, D)` tokens."""
        return torch.addmm(self.bias[index], tokens @ self.down[index], self.up[index])


class ConvExperts(nn.Module):
    """Bottlenecks with a 3x3 convolution between, so that an expert sees the neighbours of its token.

    Args:
        dim: channels D.
        num_experts: N.
        hidden_ratio: inner width over D.
    """

    tokenwise = False

    def __init__(self, dim: int, num_experts: int, hidden_ratio: float = 0.125) -> None:
        super().__init__()
        self.num_experts, hidden = num_experts, max(1, round(dim * hidden_ratio))
        self.down = nn.Conv2d(dim, num_experts * hidden, 1)
        self.mix = nn.Conv2d(num_experts * hidden, num_experts * hidden, 3, padding=1, groups=num_experts)
        self.up = nn.Conv2d(num_experts * hidden, num_experts * dim, 1, groups=num_experts)
        for conv in (self.down, self.mix, self.up):
            nn.init.xavier_uniform_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, h, w, D)` to `(N, B, h, w, D)`."""
        x = rearrange(tokens, "b h w d -> b d h w")
        x = self.up(F.relu(self.mix(F.relu(self.down(x)))))
        return rearrange(x, "b (n d) h w -> n b h w d", n=self.num_experts)
