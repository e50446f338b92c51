"""GIFNet's forward pass for use: the picture of network.py, computed with less work, time and memory.

* Only what reaches the picture is computed: not the auxiliary branch's second block, nor its queries.
* Products of neighbouring linear maps are multiplied out: the un-embedding with the decoder's first 1x1 convolution, its
  second one with the convolution that follows, the factor and offset of the normalisation with queries, keys and values.
* Channels lie last, and layers go over the picture in strips of rows that fit into caches; buffers are used again.
* The normalisation's statistics can be given, so that tiles of a picture know those of the whole (tiles.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.models.gifnet.blocks import BranchBlock
from fusion.models.gifnet.moments import Moments
from fusion.models.gifnet.network import BRANCHES, GIFNetNetwork
from fusion.models.gifnet.strips import Place, region

STRIP_PIXELS = {"cpu": 1 << 14, "other": 1 << 18}
"""Pixels per strip: cache-sized on a CPU; elsewhere 512 x 512, which fills a device and keeps a strip's many features small."""


class Core(NamedTuple):
    """The part of a tile that is its own, the rest being margin: rows and columns, half open."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, strip: Tensor, first_row: int) -> Tensor:
        """What of a strip `(B, h, w, C)` lies inside."""
        rows = slice(max(self.top - first_row, 0), max(self.bottom - first_row, 0))
        return strip[:, rows, self.left : self.right]


class FastBlock:
    """A block's parameters, made ready.

    Args:
        block: the block.
        dtype: to compute in.
        queried: only keys and values are needed, another branch brings the queries.
    """

    def __init__(self, block: BranchBlock, dtype: torch.dtype, queried: bool) -> None:
        dim, norm = block.dim, block.norm
        weight, bias = block.qkv.get_parameter("weight").double()[:, :, 0, 0], block.qkv.get_parameter("bias").double()
        weight, bias = weight * norm.weight.double(), bias + weight @ norm.bias.double()
        rows = slice(dim if queried else 0, None)
        self.qkv = _conv(weight[rows, :, None, None], bias[rows], dtype)
        self.conv = _layer(block.conv, dtype)
        self.proj, self.expand, self.contract = (
            _layer(layer, dtype) for layer in (block.proj, block.mlp[0], block.mlp[2])
        )
        self.norm = norm

    def project(self, x: Tensor, moments: Moments) -> Tensor:
        """Normalise `(B, h, w, C)`, in place, and compute queries, keys and values, or the latter two."""
        mean, std = moments.mean_std(self.norm.eps)
        x.sub_(mean.to(x).view(-1, 1, 1, 1)).mul_(std.reciprocal().to(x).view(-1, 1, 1, 1))
        return _convolved(x, self.qkv)

    def beside(self, values: Tensor) -> Tensor:
        """Depthwise convolution of `(B, h, w, C)`, without a border."""
        return F.conv2d(values.permute(0, 3, 1, 2), *self.conv, groups=values.shape[-1]).permute(0, 2, 3, 1)

    def finish(self, x: Tensor, attended: Tensor, moments: Moments) -> Tensor:
        """Residuals of attention and MLP, all `(B, h, w, C)`."""
        rescale, rebias = self.norm.affine(*moments.mean_std(self.norm.eps))
        rescale, rebias = (value.to(x)[:, None, None] for value in (rescale, rebias))
        x = x + _convolved(attended, self.proj).mul_(rescale).add_(rebias)
        return x.add_(_convolved(_convolved(x, self.expand).relu_(), self.contract))


class FastGIFNet:
    """A network made ready for inference; it keeps the weights of the moment.

    Args:
        network: the network.
        main: "mm" or "dp", the branch that makes the picture.
        gate_scale: factor on the gate.
        dtype: to compute in; statistics are float32 always.
        strip_pixels: pixels per strip; None: by device.
    """

    def __init__(
        self,
        network: GIFNetNetwork,
        main: str = "dp",
        gate_scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
        strip_pixels: int | None = None,
    ) -> None:
        self.dtype, self.dim, self.window = dtype, network.dim, network.window
        self.shifts = [network.shift(index) for index in range(network.depth)]
        device = network.unembed.weight.device
        self.strip_pixels = strip_pixels or STRIP_PIXELS["cpu" if device.type == "cpu" else "other"]
        branch = network.branch(main)
        other = network.branch(BRANCHES[1 - BRANCHES.index(main)]) if network.interacts(main) else None
        branches = [part for part in (branch, other) if part is not None]
        self.count = len(branches)
        self.encoder = [_layer(conv, dtype) for conv in network.encoder.convs]
        embeds: list[Any] = [branch.embed for branch in branches]
        self.embed = _conv(torch.cat([e.weight for e in embeds]), torch.cat([e.bias for e in embeds]), dtype)
        self.positions = [position().to(dtype)[None] for position in network.positions]
        self.heads = self.positions[0].shape[1]
        self.blocks = [FastBlock(block, dtype, queried=False) for block in branch.blocks]
        self.other = None if other is None else FastBlock(other.blocks[0], dtype, queried=True)
        self.gate = (gate_scale * branch.gate.factor()).to(dtype)
        self.borrows_values = main == "mm" and not network.aux_conv_own_v

        merge, widen = (network.merge[i].get_parameter("weight").double()[:, :, 0, 0] for i in (0, 2))
        of_shared, of_branch = merge.split(self.dim, dim=1)
        self.shared = of_shared.to(dtype)
        unembed, offset = (network.unembed.get_parameter(name).double() for name in ("weight", "bias"))
        self.unembed = _conv(torch.einsum("om,mcij->ocij", of_branch, unembed), of_branch @ offset, dtype)
        convs: list[Any] = [layer for layer in network.decoder if isinstance(layer, nn.Conv2d)]
        first = torch.einsum("omij,mc->ocij", convs[0].weight.double(), widen)
        self.decoder = [_conv(first, convs[0].bias, dtype)] + [_layer(c, dtype) for c in convs[1:]]

    def __call__(self, pair: Tensor, moments: list[list[Moments]] | None = None) -> Tensor:
        """Fuse.

        Args:
            pair: `(B, 2, H, W)` luma in [0, 1], sides of 5 pixels and more.
            moments: statistics of the first block's inputs, one per branch, and of the second's, in a larger picture that this is
                a tile of; None takes those of this one.

        Returns:
            `(B, 1, H, W)` float32 in (0, 1).
        """
        given: Sequence[list[Moments] | None] = moments or (None, None)
        shared, embedded, first = self._embed(pair, given[0])
        mixed, second = self._first_block(embedded, first, given[1])
        self._second_block(mixed, second, out=embedded)
        return self._decode(shared, embedded, mixed, *pair.shape[-2:])

    def measure(self, pair: Tensor, block: int, known: list[list[Moments]], into: list[Moments], core: Core) -> None:
        """Count the inputs of a block within `core` of a tile into the statistics `into`.

        Args:
            pair: the tile, `(B, 2, H, W)`.
            block: 0 or 1.
            known: statistics of the blocks before.
            into: statistics of block 0's branches, or of block 1's main branch.
            core: rows and columns that count.
        """
        _, embedded, _ = self._embed(pair, into if block == 0 else known[0], core if block == 0 else None)
        if block == 1:
            self._first_block(embedded, known[0], into, core)

    # Stages, on (B, H, W, C) -----------------------------------------------------------------------------------------

    def _embed(
        self, pair: Tensor, given: list[Moments] | None, core: Core | None = None
    ) -> tuple[Tensor, Tensor, list[Moments]]:
        """Shared features, embedded features of main and other branch side by side, and the latter's statistics."""
        batch, _, height, width = pair.shape
        high, wide = (-(-side // 4) * 4 for side in (height, width))
        padded = torch.empty(batch, high, wide, self.dim, dtype=self.dtype, device=pair.device)
        shared = padded[:, :height, :width]
        shared[..., :2] = pair.permute(0, 2, 3, 1)
        done = 2
        for weight, bias in self.encoder:
            width_out = len(weight)
            self._convolve(shared[..., :done], (weight, bias), shared[..., done : done + width_out], relu=True)
            done += width_out
        if (high, wide) != (height, width):
            padded[:] = region(shared, 0, high, 0, wide)
        embedded = padded.new_empty(batch, high, wide, self.count * self.dim)
        moments = given or [Moments(batch, pair.device) for _ in range(self.count)]
        for top, bottom in self._strips(high, wide, batch):
            strip = _convolved(region(padded, top - 1, bottom + 1, -1, wide + 1), self.embed)
            embedded[:, top:bottom] = strip
            if given is None or core is not None:
                counted = strip if core is None else core.of(strip, top)
                for part, statistics in zip(counted.split(self.dim, -1), moments, strict=True):
                    statistics.add(part)
        return shared, embedded, moments

    def _first_block(
        self, embedded: Tensor, moments: list[Moments], given: list[Moments] | None, core: Core | None = None
    ) -> tuple[Tensor, list[Moments]]:
        """Both branches, and the other one through the gate into the main one; `(B, H, W, C)` and its statistics."""
        batch, high, wide, _ = embedded.shape
        mixed = embedded.new_empty(batch, high, wide, self.dim)
        after = given or [Moments(batch, embedded.device)]
        shift = self.shifts[0]
        for top, bottom in self._strips(high + shift, wide, batch):
            place = Place(embedded, top - shift, bottom - shift, shift, self.window)
            x = place.inside(embedded[..., : self.dim])
            qkv = self.blocks[0].project(place.around(embedded[..., : self.dim]), moments[0])
            queries, values = place.windows(qkv[..., : self.dim], self.heads), qkv[..., 2 * self.dim :]
            attended = place.attend(queries, qkv[..., self.dim :], self.positions[0], self.blocks[0].beside(values))
            x = self.blocks[0].finish(x, attended, moments[0])
            if self.other is not None:
                y = place.inside(embedded[..., self.dim :])
                kv = self.other.project(place.around(embedded[..., self.dim :]), moments[1])
                beside = self.other.beside(values if self.borrows_values else kv[..., self.dim :])
                attended = place.attend(queries, kv, self.positions[0], beside)
                x.addcmul_(self.other.finish(y, attended, moments[1]), self.gate)
            mixed[:, place.rows] = x
            if given is None or core is not None:
                after[0].add(x if core is None else core.of(x, place.rows.start))
        return mixed, after

    def _second_block(self, mixed: Tensor, moments: list[Moments], out: Tensor) -> None:
        """The main branch alone, into the first channels of `out`."""
        batch, high, wide, _ = mixed.shape
        shift = self.shifts[1]
        for top, bottom in self._strips(high + shift, wide, batch):
            place = Place(mixed, top - shift, bottom - shift, shift, self.window)
            qkv = self.blocks[1].project(place.around(mixed), moments[0])
            queries, values = place.windows(qkv[..., : self.dim], self.heads), qkv[..., 2 * self.dim :]
            attended = place.attend(queries, qkv[..., self.dim :], self.positions[1], self.blocks[1].beside(values))
            out[:, place.rows, :, : self.dim] = self.blocks[1].finish(place.inside(mixed), attended, moments[0])

    def _decode(self, shared: Tensor, branch: Tensor, spare: Tensor, height: int, width: int) -> Tensor:
        """Picture from shared features and branch; `branch` and `spare` are overwritten, taking turns."""
        buffers = [spare[:, :height, :width], branch[:, :height, :width]]
        for top, bottom in self._strips(height, width, len(shared)):
            around = region(branch[..., : self.dim], top - 1, bottom + 1, -1, width + 1)
            strip = _convolved(around, self.unembed).add_(F.linear(shared[:, top:bottom], self.shared))
            spare[:, top:bottom, :width] = strip.relu_()
        features = buffers[0]
        for index, layer in enumerate(self.decoder[:-1]):
            target = buffers[(index + 1) % 2][..., : len(layer[0])]
            self._convolve(features, layer, target, relu=True)
            features = target
        fused = torch.empty(len(shared), height, width, 1, device=shared.device)
        self._convolve(features, self.decoder[-1], fused, relu=False)
        return fused.permute(0, 3, 1, 2).tanh_().mul_(0.5).add_(0.5)

    def _convolve(self, x: Tensor, layer: tuple[Tensor, Tensor], out: Tensor, relu: bool) -> None:
        """3x3 convolution with reflected border."""
        height, width = x.shape[1:3]
        for top, bottom in self._strips(height, width, len(x)):
            strip = _convolved(region(x, top - 1, bottom + 1, -1, width + 1), layer)
            out[:, top:bottom] = strip.relu_() if relu else strip

    def _strips(self, rows: int, width: int, batch: int) -> Iterator[tuple[int, int]]:
        """Rows of the strips, whole windows each; the last one ends with the picture."""
        step = max(self.strip_pixels // (width * batch * self.window), 1) * self.window
        return ((top, min(top + step, rows)) for top in range(0, rows, step))


def _conv(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return weight.detach().to(dtype).contiguous(memory_format=torch.channels_last), bias.detach().to(dtype)


def _layer(conv: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _conv(conv.weight, conv.bias, dtype)


def _convolved(x: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    """Convolve `(B, H, W, C)` without a border. 1x1 too: a convolution adds its bias on the way, a product afterwards."""
    return F.conv2d(x.permute(0, 3, 1, 2), *layer).permute(0, 2, 3, 1)
