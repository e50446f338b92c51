"""TC-MoA: two streams through a frozen MAE, mixed by an adapter after every tau-th block (CVPR 2024, Sec. 3)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import RelPosBias
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusion.errors import ConfigError, DataError
from fusion.layers.mae import MAE
from fusion.layers.normalize import ImageNetNormalize
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.placement import site_blocks
from fusion.models.tcmoa.windows import WindowOrder, run_block, window_biases
from fusion.moe.adapters import Adapter, PromptControl, SiteOutput
from fusion.moe.routers import TaskWeights

DOWN_MODES = ("nearest", "bilinear")
STREAMS = ("autocast", "float32")
RECOMPUTES = (False, "mlp", True)


class Stage(nn.Module):
    """What is trained around one stack of frozen blocks: relative positions, fusion sites, branches.

    Attributes:
        last_site: block after which the streams mix for the last time, -1 if they never do.

    Args:
        dim: width of the stack.
        depth: number of blocks.
        num_heads: attention heads.
        adapter: makes the sites and branches.
        tau, tau_shift: see `site_blocks`.
        window: window side in tokens.
    """

    def __init__(
        self, dim: int, depth: int, num_heads: int, adapter: Adapter, tau: int, tau_shift: int | None, window: int
    ) -> None:
        super().__init__()
        # One table for two blocks (the plain and the shifted one) and for both streams.
        self.positions = nn.ModuleList(RelPosBias((window, window), num_heads) for _ in range((depth + 1) // 2))
        sites = {str(block): adapter.site(dim) for block in site_blocks(depth, tau, tau_shift)}
        self.sites = nn.ModuleDict({block: site for block, site in sites.items() if site is not None})
        branches = [adapter.branch(dim) for _ in range(depth)]
        self.branches = nn.ModuleList(branch for branch in branches if branch is not None)
        self.last_site = max((int(block) for block in self.sites), default=-1)

    def branch(self, block: int) -> nn.Module | None:
        """The branch parallel to the MLP of a block, if the adapter has any."""
        return self.branches[block] if len(self.branches) else None


class TCMoANetwork(nn.Module):
    """Fuses `(B, 3, H, W)` pairs whose sides are multiples of `size_multiple`.

    Args:
        backbone: frozen here, except for what the adapter unfreezes.
        adapter: what is trained.
        tau: blocks per adapter site.
        tau_shift: moves the sites within their group of blocks; None takes the rule of `site_blocks`.
        window: window side in tokens.
        shift: roll of the odd blocks in tokens; 0 gives isolated windows (supplement Fig. 12).
        upsample: run on the images enlarged twice and take the result back (released code; the paper is silent).
        down_mode: how to take it back: "nearest" (released code) or "bilinear".
        decoder_stat_match: after each decoder site give both streams their mean and std back (released code).
        pos_embed_official: see `resize_pos_embed`; needed for non-square inputs of the released checkpoint only.
        restore: add what the frozen backbone loses of the plain average of the sources, which takes a third stream through it
            (ours, for small backbones).
        gradient_checkpointing: True recomputes the blocks in the backward pass: least memory, about a third more time; "mlp" only
            the inner features of their MLPs: two fifths less memory of the blocks, about a sixth more time (one of six products).
        stream: type of the tokens between two sites where autocast is on: "autocast" (its type: half the memory and traffic) or
            "float32". Sites add up, and reconstruct, in float32 either way.
    """

    def __init__(
        self,
        backbone: MAE,
        adapter: Adapter,
        tau: int = 4,
        tau_shift: int | None = None,
        window: int = 14,
        shift: int = 7,
        upsample: bool = True,
        down_mode: str = "nearest",
        decoder_stat_match: bool = True,
        pos_embed_official: bool = False,
        restore: bool = False,
        gradient_checkpointing: bool | str = False,
        stream: str = "autocast",
    ) -> None:
        super().__init__()
        self.check_config({"stream": stream, "gradient_checkpointing": gradient_checkpointing})
        self.restore, self.stream = restore, stream
        self.window, self.shift, self.upsample, self.down_mode = window, shift, upsample, down_mode
        self.decoder_stat_match, self.pos_embed_official = decoder_stat_match, pos_embed_official
        self.gradient_checkpointing = gradient_checkpointing
        self.normalize = ImageNetNormalize()
        self.backbone = backbone
        settings = (adapter, tau, tau_shift, window)
        self.encoder = Stage(backbone.embed_dim, len(backbone.blocks), backbone.num_heads, *settings)
        self.decoder = Stage(
            backbone.decoder_embed_dim, len(backbone.decoder_blocks), backbone.decoder_num_heads, *settings
        )
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name.startswith(adapter.unfreeze))
        if not adapter.trains_positions:
            for stage in (self.encoder, self.decoder):
                stage.positions.requires_grad_(False)
                for table in stage.positions.parameters():
                    nn.init.zeros_(table)
        self.size_multiple = window * backbone.patch_size // (2 if upsample else 1)
        self.tokens_at_once: int | None = None  # in use, where memory is scarce: blocks and sites go piece by piece

    @property
    def _bytes_of_streams(self) -> float:
        """One copy of both streams, per pixel of the pair."""
        return 8 * self.backbone.embed_dim / (self.size_multiple / self.window) ** 2

    @property
    def _bytes_of_pictures(self) -> int:
        return 60 * (4 if self.upsample else 1)

    @property
    def bytes_per_pixel(self) -> float:
        """What a forward pass takes per pixel: the inside of a block is what is largest. See `FusionModel`."""
        return 16 * self._bytes_of_streams + self._bytes_of_pictures

    @property
    def kept_bytes_per_pixel(self) -> float:
        """What it takes where blocks go piece by piece, but for the pieces."""
        return 5 * self._bytes_of_streams + self._bytes_of_pictures

    def tokens_in(self, room: float) -> int | None:
        """Tokens whose way through a block takes so many bytes; None for less than a few windows."""
        tokens = int(room / (16 * 4 * self.backbone.embed_dim))
        return tokens if tokens >= 8 * self.window**2 else None

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse impossible values, before anything is built.

        Raises:
            ConfigError: names the key and what it takes.
        """
        for key, known in (("stream", STREAMS), ("gradient_checkpointing", RECOMPUTES), ("down_mode", DOWN_MODES)):
            if (value := config.get(key, known[0])) not in known:
                raise ConfigError(
                    f"model.network.{key}={value} is not one of {', '.join(str(name).lower() for name in known)}"
                )

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        task: TaskWeights | list[TaskWeights],
        control: PromptControl | list[PromptControl] | None = None,
    ) -> FusionOutput:
        """Fuse RGB pairs in [0, 1].

        Args:
            a, b: `(B, 3, H, W)`, sides multiples of `size_multiple`.
            task: index or `(num_tasks,)` weights of the routers, one for all sites or one per site.
            control: steering of the prompts, one for all sites or one per site.

        Returns:
            `FusionOutput` with prompts and routings of the encoder's sites, then the decoder's.

        Raises:
            DataError: other sides.
        """
        if a.shape[2] % self.size_multiple or a.shape[3] % self.size_multiple:
            raise DataError(
                f"images of {a.shape[2]}x{a.shape[3]} pixels: TC-MoA's windows take sides that are multiples of "
                f"{self.size_multiple}; train with data.crop_size={self.size_multiple}, or resize the sets"
            )
        output = FusionOutput(fused=a)
        names = [f"{stage}.{block}" for stage in ("encoder", "decoder") for block in getattr(self, stage).sites]
        tasks = per_site(task, names)
        controls = per_site(control or PromptControl(), names)
        images = self.normalize(torch.cat([a, b]))  # both sources share all weights: one batch of 2B
        if self.upsample:
            images = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
        backbone = self.backbone
        tokens = backbone.embed(images, self.pos_embed_official)
        order = WindowOrder(tokens, self.window)
        biases = self._biases(tokens)
        tokens = self._run("encoder", backbone.blocks, tokens, order, biases["encoder"], tasks, controls, output)
        if not self.encoder.sites:
            tokens = torch.stack(tokens.float().chunk(2)).mean(0)
        tokens = backbone.embed_for_decoder(tokens, self.pos_embed_official)
        tokens = self._run(
            "decoder", backbone.decoder_blocks, tokens, order, biases["decoder"], tasks, controls, output
        )
        pixels = backbone.predict(tokens[: len(a)])  # after the last site only stream a is read
        if self.restore:
            pixels = pixels + self._lost(sum(images.chunk(2)) / 2, order, biases)
        if self.upsample:
            pixels = F.interpolate(pixels, size=a.shape[2:], mode=self.down_mode)
        output.fused = self.normalize.inverse(pixels.float()).clamp(0, 1)
        return output

    @torch.no_grad()
    def _lost(self, images: Tensor, order: WindowOrder, biases: dict[str, list[Tensor]]) -> Tensor:
        """What the backbone by itself does not give back of normalised images `(B, 3, H, W)`."""
        tokens = self.backbone.embed(images, self.pos_embed_official)
        tokens = self._plain(self.backbone.blocks, tokens, order, biases["encoder"])
        tokens = self.backbone.embed_for_decoder(tokens, self.pos_embed_official)
        tokens = self._plain(self.backbone.decoder_blocks, tokens, order, biases["decoder"])
        return images - self.backbone.predict(tokens)

    def _plain(self, blocks: nn.ModuleList, tokens: Tensor, order: WindowOrder, biases: list[Tensor]) -> Tensor:
        x, at = tokens.flatten(0, 2).to(self._stream_dtype(tokens)), None
        for index, block in enumerate(blocks):
            x, at = self._into_windows(x, order, at, index)
            x = self._by_pieces(x, block, biases[index // 2])
        return order.move(x.flatten(0, 1), at, None).view(tokens.shape)

    def _run(
        self,
        name: str,
        blocks: nn.ModuleList,
        tokens: Tensor,
        order: WindowOrder,
        biases: list[Tensor],
        tasks: dict[str, TaskWeights],
        controls: dict[str, PromptControl],
        output: FusionOutput,
    ) -> Tensor:
        """The blocks of one stage on the stacked streams `(2B, h, w, C)`; `(B, h, w, C)` once the second is of no more use."""
        stage: Stage = getattr(self, name)
        grid, dim, dtype = tokens.shape[1:3], tokens.shape[3], self._stream_dtype(tokens)
        recompute = self.gradient_checkpointing if self.training and torch.is_grad_enabled() else False
        x, at = tokens.flatten(0, 2).to(dtype), None
        for index, block in enumerate(blocks):
            x, at = self._into_windows(x, order, at, index)
            arguments = (block, x, biases[index // 2], stage.branch(index))
            if recompute is True:
                x = checkpoint(run_block, *arguments, use_reentrant=False)
            else:
                x = self._by_pieces(x, block, *arguments[2:], recompute_mlp=recompute == "mlp")
            if str(index) not in stage.sites:
                continue
            site = f"{name}.{index}"
            tokens, at = order.move(x.flatten(0, 1), at, None).view(-1, *grid, dim), None
            mixed, tokens = self._mix(stage, name, index, tokens, tasks[site], controls[site])
            x = tokens.flatten(0, 2).to(dtype)
            output.sites.append(site)
            output.prompts.append(mixed.prompts)
            output.routings.append(mixed.routing)
        return order.move(x.flatten(0, -2), at, None).view(-1, *grid, dim)

    def _by_pieces(self, x: Tensor, block: nn.Module, *rest: Any, **options: Any) -> Tensor:
        """A block on tokens in windows `(windows, window^2, C)`; windows do not see each other, so some at a time do as well."""
        count = 0 if self.tokens_at_once is None else max(self.tokens_at_once // self.window**2, 1)
        if not count or len(x) <= count or torch.is_grad_enabled():
            return run_block(block, x, *rest, **options)
        made = torch.empty_like(x)
        for start in range(0, len(x), count):
            made[start : start + count] = run_block(block, x[start : start + count], *rest, **options)
        return made

    def _site(self, site: Any, a: Tensor, b: Tensor, task: TaskWeights, control: PromptControl) -> SiteOutput:
        """A site on streams `(B, h, w, C)`, where memory is scarce on strips of rows with what it sees around them."""
        reach, rows = getattr(site, "reach", None), len(a[0])
        step = 0 if self.tokens_at_once is None else max(self.tokens_at_once // (len(a) * a.shape[2] * 2), 8)
        if not step or reach is None or rows <= step or torch.is_grad_enabled():
            return site(a, b, task, control)
        made_a, made_b = torch.empty_like(a), torch.empty_like(b)
        prompts: list[Tensor] = []
        for start in range(0, rows, step):
            end = min(start + step, rows)
            top, bottom = max(start - reach, 0), min(end + reach, rows)
            made: SiteOutput = site(a[:, top:bottom], b[:, top:bottom], task, control)
            inner = slice(start - top, end - top)
            made_a[:, start:end], made_b[:, start:end] = made.a[:, inner], made.b[:, inner]
            if made.prompts is not None:
                prompts.append(made.prompts[:, :, inner])
        return SiteOutput(made_a, made_b, torch.cat(prompts, dim=2) if prompts else None, made.routing)

    def _mix(
        self, stage: Stage, name: str, index: int, tokens: Tensor, task: TaskWeights, control: PromptControl
    ) -> tuple[SiteOutput, Tensor]:
        """A site's output, and the streams after it `(2B, h, w, C)`, or the first of them, in float32."""
        device = tokens.device.type
        before = tokens.float().chunk(2)
        autocast = torch.is_autocast_enabled(device) and self.stream == "autocast"
        with torch.autocast(device, enabled=autocast):
            mixed = self._site(stage.sites[str(index)], before[0], before[1], task, control)
        streams = [mixed.a, mixed.b]
        with torch.autocast(device, enabled=False):
            if name == "decoder":
                if index == stage.last_site:
                    streams = streams[:1]
                if self.decoder_stat_match:
                    streams = [match_statistics(new, old) for new, old in zip(streams, before, strict=False)]
            return mixed, torch.cat(streams)

    def _into_windows(self, x: Tensor, order: WindowOrder, at: int | None, index: int) -> tuple[Tensor, int]:
        """Tokens in the windows of a block, `(windows, window^2, C)`, and the shift of these."""
        shift = self.shift * (index % 2)
        x = order.move(x.flatten(0, -2), at, shift)
        return x.view(-1, self.window**2, x.shape[1]), shift

    def _biases(self, tokens: Tensor) -> dict[str, list[Tensor]]:
        """Position biases of both stages, one per two blocks, in the type that attention computes in."""
        device = tokens.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype
        return {name: window_biases(list(getattr(self, name).positions), dtype) for name in ("encoder", "decoder")}

    def _stream_dtype(self, tokens: Tensor) -> torch.dtype:
        """Type of the tokens between two sites."""
        device = tokens.device.type
        if self.stream == "autocast" and torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return tokens.dtype


def match_statistics(new: Tensor, old: Tensor) -> Tensor:
    """Give `new` the mean and (unbiased) standard deviation of `old`, per sample over tokens and channels."""
    (old_std, old_mean), (std, mean) = (torch.std_mean(x, (1, 2, 3), keepdim=True) for x in (old, new))
    return (new - mean) * (old_std / (std + 1e-12)) + old_mean


def per_site(value: object, sites: list[str]) -> dict:
    """One value per site; a list gives each site its own."""
    if not isinstance(value, list):
        return dict.fromkeys(sites, value)
    if len(value) != len(sites):
        raise ValueError(f"{len(value)} values for {len(sites)} sites ({', '.join(sites)}): give one, or one per site")
    return dict(zip(sites, value, strict=True))
