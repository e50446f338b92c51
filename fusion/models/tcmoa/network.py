"""TC-MoA: two streams through a frozen MAE, mixed by an adapter after every tau-th block (CVPR 2024, Sec. 3)."""

import torch
import torch.nn.functional as F
from timm.layers import RelPosBias
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusion.layers.mae import MAE
from fusion.layers.normalize import ImageNetNormalize
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.placement import site_blocks
from fusion.models.tcmoa.windows import windowed_block
from fusion.moe.adapters import Adapter, PromptControl
from fusion.moe.routers import TaskWeights

DOWN_MODES = ("nearest", "bilinear")


class Stage(nn.Module):
    """What is trained around one stack of frozen blocks: relative positions, fusion sites, branches.

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

    def branch(self, block: int) -> nn.Module | None:
        """The branch parallel to the MLP of a block, if the adapter has any."""
        return self.branches[block] if len(self.branches) else None

    @property
    def last_site(self) -> int:
        """Block after which the streams mix for the last time, -1 if they never do."""
        return max((int(block) for block in self.sites), default=-1)


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
        gradient_checkpointing: recompute the blocks in the backward pass: less memory, about a third more time.
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
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.restore = restore
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
        """
        output = FusionOutput(fused=a)
        names = [f"{stage}.{block}" for stage in ("encoder", "decoder") for block in getattr(self, stage).sites]
        tasks = _per_site(task, names)
        controls = _per_site(control or PromptControl(), names)
        images = self.normalize(torch.cat([a, b]))  # both sources share all weights: one batch of 2B
        if self.upsample:
            images = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
        backbone = self.backbone
        tokens = backbone.embed(images, self.pos_embed_official)
        tokens = self._run("encoder", backbone.blocks, tokens, tasks, controls, output)
        if not self.encoder.sites:
            tokens = sum(tokens.chunk(2)) / 2
        tokens = backbone.embed_for_decoder(tokens, self.pos_embed_official)
        tokens = self._run("decoder", backbone.decoder_blocks, tokens, tasks, controls, output)
        pixels = backbone.predict(tokens[: len(a)])  # after the last site only stream a is read
        if self.restore:
            pixels = pixels + self._lost(sum(images.chunk(2)) / 2)
        if self.upsample:
            pixels = F.interpolate(pixels, size=a.shape[2:], mode=self.down_mode)
        output.fused = self.normalize.inverse(pixels.float()).clamp(0, 1)
        return output

    @torch.no_grad()
    def _lost(self, images: Tensor) -> Tensor:
        """What the backbone by itself does not give back of normalised images `(B, 3, H, W)`."""
        tokens = self.backbone.embed(images, self.pos_embed_official)
        tokens = self._plain(self.encoder, self.backbone.blocks, tokens)
        tokens = self.backbone.embed_for_decoder(tokens, self.pos_embed_official)
        tokens = self._plain(self.decoder, self.backbone.decoder_blocks, tokens)
        return images - self.backbone.predict(tokens)

    def _plain(self, stage: Stage, blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        for index, block in enumerate(blocks):
            bias = stage.positions[index // 2].get_bias()
            tokens = windowed_block(block, tokens, self.window, self.shift * (index % 2), bias)
        return tokens

    def _run(
        self,
        name: str,
        blocks: nn.ModuleList,
        tokens: Tensor,
        tasks: dict[str, TaskWeights],
        controls: dict[str, PromptControl],
        output: FusionOutput,
    ) -> Tensor:
        """The blocks of one stage on the stacked streams `(2B, h, w, C)`; `(B, h, w, C)` once the second is of no more use."""
        stage: Stage = getattr(self, name)
        for index, block in enumerate(blocks):
            bias = stage.positions[index // 2].get_bias()
            arguments = (block, tokens, self.window, self.shift * (index % 2), bias, stage.branch(index))
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(windowed_block, *arguments, use_reentrant=False)
            else:
                tokens = windowed_block(*arguments)
            if str(index) not in stage.sites:
                continue
            site = f"{name}.{index}"
            with torch.autocast(tokens.device.type, enabled=False):  # gates and log-sum-exp need float32
                before = tokens.float().chunk(2)
                mixed = stage.sites[str(index)](*before, tasks[site], controls[site])
                streams = [mixed.a, mixed.b]
                if name == "decoder":
                    if self.decoder_stat_match:
                        streams = [match_statistics(new, old) for new, old in zip(streams, before, strict=True)]
                    if index == stage.last_site:
                        streams = streams[:1]
                tokens = torch.cat(streams)
            output.sites.append(site)
            output.prompts.append(mixed.prompts)
            output.routings.append(mixed.routing)
        return tokens


def match_statistics(new: Tensor, old: Tensor) -> Tensor:
    """Give `new` the mean and (unbiased) standard deviation of `old`, per sample over tokens and channels."""
    dims = (1, 2, 3)
    scale = old.std(dims, keepdim=True) / (new.std(dims, keepdim=True) + 1e-12)
    return (new - new.mean(dims, keepdim=True)) * scale + old.mean(dims, keepdim=True)


def _per_site(value: object, sites: list[str]) -> dict:
    """One value per site; a list gives each site its own."""
    if not isinstance(value, list):
        return dict.fromkeys(sites, value)
    if len(value) != len(sites):
        raise ValueError(f"{len(value)} values for {len(sites)} sites ({', '.join(sites)}): give one, or one per site")
    return dict(zip(sites, value, strict=True))
