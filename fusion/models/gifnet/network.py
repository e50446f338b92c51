"""The network of GIFNet as the supplement and the released code define it; inference.py runs it faster."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.layers.borders import crop, reflect
from fusion.models.gifnet.blocks import BranchBlock, keep_variance, reflect_conv, window_attention
from fusion.models.gifnet.gates import ScalarGate
from fusion.models.gifnet.log_position_bias import LogPositionBias

BRANCHES = ("mm", "dp")
"""Multi-modal (visible-infrared) and digital photography (multi-focus, multi-exposure), as in the supplement's Fig. 4."""
INTERACTIONS = ("on", "one_way", "off")


class SharedEncoder(nn.Module):
    """Three densely connected convolutions; the input itself is part of the features.

    Args:
        width: channels of each.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.convs = nn.ModuleList(reflect_conv(2 + width * i, width) for i in range(3))
        self.dim = 2 + 3 * width

    def forward(self, pair: Tensor) -> Tensor:
        """`(B, 2, H, W)` to `(B, dim, H, W)`."""
        features = pair
        for conv in self.convs:
            features = torch.cat([features, conv(features).relu()], 1)
        return features


class Decoder(nn.Sequential):
    """Four convolutions down to one channel, with tanh at the end.

    Args:
        dim: channels in.
        width: channels of the first; the next two halve them.
    """

    def __init__(self, dim: int, width: int = 64) -> None:
        widths = [dim, width, width // 2, width // 4]
        steps: list[nn.Module] = []
        for before, after in pairwise(widths):
            steps += [reflect_conv(before, after), nn.ReLU()]
        super().__init__(*steps, reflect_conv(widths[-1], 1), nn.Tanh())


class Branch(nn.Module):
    """What one task has of its own.

    Args:
        dim: channels.
        depth: blocks.
        mlp_ratio: see `BranchBlock`.
        gate: makes the gate through which the other branch enters this one from `dim`.
    """

    def __init__(self, dim: int, depth: int, mlp_ratio: float, gate: Callable[[int], ScalarGate]) -> None:
        super().__init__()
        self.embed = reflect_conv(dim, dim)
        self.blocks: Any = nn.ModuleList(BranchBlock(dim, depth, mlp_ratio) for _ in range(depth))
        self.gate = gate(dim)


@dataclass
class Features:
    """Feature maps `(B, dim, H, W)` on the way (supplement Fig. 5).

    Attributes:
        shared: encoder features of the main pair.
        main: output of the main branch.
        auxiliary: features of the other branch where it enters; None if it does not.
    """

    shared: Tensor
    main: Tensor
    auxiliary: Tensor | None


class GIFNetNetwork(nn.Module):
    """One shared encoder, two branches that meet in the first block, one decoder; on luma.

    Args:
        interaction: "on": either branch, when it is the main one, gets the other's features; "one_way": only the
            digital photography branch does; "off": none does.
        gate: makes a gate from the number of channels, see gates.py.
        window: side of the attention windows in pixels; the second block's are shifted by half of it.
        heads: number of attention heads.
        mlp_ratio: hidden width of the MLPs over their channels.
        width: channels per convolution of the encoder.
        aux_conv_own_v: False reproduces the released code, which applies the photography branch's depthwise
            convolution to the values of the multi-modal branch when the latter is the main one. Has no influence with
            the photography branch as the main one.
        init: initial weights of the convolutions outside the blocks. "torch": PyTorch's default, as released, which shrinks
            the signal from layer to layer; "kaiming": keeps its size (He et al. 2015), the pictures starting in the middle (ours).
    """

    depth = 2

    def __init__(
        self,
        interaction: str = "on",
        gate: Callable[[int], ScalarGate] = ScalarGate,
        window: int = 8,
        heads: int = 2,
        mlp_ratio: float = 2.0,
        width: int = 32,
        aux_conv_own_v: bool = False,
        init: str = "torch",
    ) -> None:
        super().__init__()
        if interaction not in INTERACTIONS:
            raise ConfigError(f"model.interaction={interaction}: expected one of {', '.join(INTERACTIONS)}")
        if init not in ("torch", "kaiming"):
            raise ConfigError(f"model.network.init={init}: expected torch or kaiming")
        self.interaction, self.window, self.aux_conv_own_v = interaction, window, aux_conv_own_v
        self.encoder = SharedEncoder(width)
        dim = self.dim = self.encoder.dim
        if dim % heads:
            raise ConfigError(
                f"model.network.heads={heads} must divide the {dim} channels of model.network.width={width}"
            )
        self.reconstruction = Decoder(dim)
        self.branches = nn.ModuleDict({name: Branch(dim, self.depth, mlp_ratio, gate) for name in BRANCHES})
        self.positions = nn.ModuleList(LogPositionBias(window, heads) for _ in range(self.depth))
        self.unembed = reflect_conv(dim, dim)
        self.merge = nn.Sequential(
            nn.Conv2d(2 * dim, dim, 1, bias=False), nn.ReLU(), nn.Conv2d(dim, 128, 1, bias=False)
        )
        self.decoder = Decoder(128)
        if init == "kaiming":
            outside = [self.encoder, self.unembed, self.merge, self.decoder, self.reconstruction]
            keep_variance(*outside, *(branch.get_submodule("embed") for branch in self.branches.values()))

    def shift(self, block: int) -> int:
        """Pixels by which the window grid of a block is shifted."""
        return self.window // 2 if block % 2 else 0

    def interacts(self, main: str) -> bool:
        """Whether the other branch enters when `main` is the main one."""
        return self.interaction == "on" or (self.interaction == "one_way" and main == "dp")

    def forward(
        self, pair: Tensor, auxiliary: Tensor | None = None, main: str = "dp", gate_scale: float = 1.0
    ) -> tuple[Tensor, Features]:
        """Fuse.

        Args:
            pair: `(B, 2, H, W)` luma in [0, 1]: infrared-like, then visible-like.
            auxiliary: pair of the other task, of the same shape, that the other branch sees; None: the same pair.
            main: "mm" or "dp", the branch that makes the picture.
            gate_scale: factor on the gate, for analysis.

        Returns:
            Fused luma `(B, 1, H, W)` in (0, 1), and the features it was made of.
        """
        shared = self.encoder(pair)
        other_shared: Tensor | None = None
        if self.interacts(main):
            if auxiliary is None:
                other_shared = shared
            else:
                with torch.no_grad():
                    other_shared = self.encoder(auxiliary)
        main_features, other_features = self.mix(shared, other_shared, main, gate_scale)
        height, width = shared.shape[-2:]
        mixed = crop(self.unembed(main_features), height, width)
        fused = self.decoder(self.merge(torch.cat([shared, mixed], 1))) / 2 + 0.5
        entered = None if other_features is None else crop(other_features, height, width)
        return fused, Features(shared, crop(main_features, height, width), entered)

    def branch(self, name: str) -> Branch:
        """A branch by name, "mm" or "dp"."""
        return cast(Branch, self.branches[name])

    def reconstruct(self, shared: Tensor) -> Tensor:
        """Picture that the shared features alone hold: `(B, 1, H, W)` in (-1, 1)."""
        return self.reconstruction(shared)

    def mix(
        self, shared: Tensor, other_shared: Tensor | None, main: str, gate_scale: float
    ) -> tuple[Tensor, Tensor | None]:
        """The main branch with what the other one brings, both `(B, dim, H', W')` with sides padded to multiples of 4."""
        branch, other = self.branch(main), self.branch(BRANCHES[1 - BRANCHES.index(main)])
        x = branch.embed(_pad_to_four(shared))
        y = None if other_shared is None else other.embed(_pad_to_four(other_shared))
        entered = None
        for index, block in enumerate(branch.blocks):
            bias, shift = self.positions[index](), self.shift(index)
            normed, rescale, rebias = block.norm(x)
            q, k, v = block.qkv(normed).chunk(3, dim=1)
            attended = window_attention(q, k, v, bias, self.window, shift)
            x = block.finish(x, block.proj(block.conv(v) + attended), rescale, rebias)
            if y is not None and index == 0:  # the other branch ends where it enters
                entered = self._queried(other.blocks[index], y, q, v, bias, borrow=main == "mm")
                x = x + gate_scale * branch.gate(entered)
        return x, entered

    def _queried(self, block: BranchBlock, y: Tensor, q: Tensor, v: Tensor, bias: Tensor, borrow: bool) -> Tensor:
        """The other branch's block, asked by the main branch's queries. Its attention learns nothing from that."""
        normed, rescale, rebias = block.norm(y)
        with torch.no_grad():
            key, value = block.keys_values(normed)
            attended = window_attention(q, key, value, bias, self.window, 0)
            beside = block.conv(v if borrow and not self.aux_conv_own_v else value)
            attended = block.proj(beside + attended)
        return block.finish(y, attended, rescale, rebias)


def _pad_to_four(x: Tensor) -> Tensor:
    bottom, right = (-side % 4 for side in x.shape[-2:])
    return reflect(x, right=right, bottom=bottom)
