"""TC-MoA as a LightningModule."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusion.data.batch import TASKS, FusionBatch
from fusion.errors import ConfigError, WeightsError
from fusion.hub import load_backbone, load_strict, locate, read_state
from fusion.layers.color import join_luma, merge_chroma, split_luma
from fusion.layers.mae import MAE
from fusion.models.base import FusionModel
from fusion.models.compiled import is_compiled
from fusion.models.memory import PAYS, PICTURE, pixels_at_once
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.backbone import PyramidBackbone
from fusion.models.tcmoa.convert import convert_official
from fusion.models.tcmoa.many import base_prompts, fuse_pyramid_of_many
from fusion.models.tcmoa.network import DOWN_MODES, TCMoANetwork
from fusion.models.tcmoa.placement import site_blocks
from fusion.models.tcmoa.pyramid import PyramidNetwork, Whole
from fusion.models.tcmoa.sizes import POLICIES, fuse_any_size
from fusion.models.tcmoa.tiles import LARGEST, SEEN, TILE, WHOLE, fuse_pyramid
from fusion.models.tiled import Reach, run_blended, side_of
from fusion.moe.adapters import Adapter, PromptControl
from fusion.moe.routers import TaskWeights

UNSEEN = {"medical": "vif", "nir": "vif", "pansharpening": "vif"}
"""Tasks without a router of their own and the task whose router serves them (Sec. 4.6)."""
COLORS = ("rgb", "yuv")
PROMPT_MAKERS = re.compile(r"\.sites\.\d+\.((norm1|reduce|around|norm2|router|experts)\.|fuse\.gain_)")


class TCMoA(FusionModel):
    """Task-customized mixture of adapters (Zhu et al., CVPR 2024).

    Args:
        backbone: MAE, whose weights come from where `backbone.weights` says and stay frozen; or a pyramid, which has none.
        adapter: makes the adapter from N, K, the number of tasks, `router` and `expert`.
        router, expert: see `fusion.moe.adapters.Adapter`.
        loss: objective `(output, batch, epoch) -> terms`.
        tasks: tasks with a router of their own, in the order of the router bank.
        num_experts: N.
        top_k: K.
        tau, tau_shift: blocks per adapter site and where in its group the site lies; a pyramid has a site on every band.
        size_policy: how `fuse` treats sizes, see `fuse_any_size`; a pyramid takes any size.
        color: "rgb" runs on the color images; "yuv" on their luma, with the chroma of the visible image (vif) or merged.
        prompt_lr_scale: factor on the learning rate of what makes the prompts (routers, experts and what they read), and of
            local gains.
        weights: name or path of weights for the whole network: a checkpoint of ours, or one of the official release.
        network: further arguments of `TCMoANetwork`; a pyramid's are those of its backbone.
        base: see `FusionModel`.
    """

    example_size = (112, 112)
    weights_help = (
        "give ckpt_path=FILE (released checkpoints: https://github.com/YangSun22/TC-MoA) or ckpt_path=RUN_FOLDER, or take "
        "model=tcmoa_pyramid, which comes trained"
    )
    task_indices: Tensor

    def __init__(
        self,
        backbone: MAE | PyramidBackbone,
        adapter: Callable[..., Adapter],
        router: Callable[..., nn.Module],
        expert: Callable[..., nn.Module],
        loss: nn.Module,
        tasks: Sequence[str] = TASKS,
        num_experts: int = 4,
        top_k: int = 2,
        tau: int = 4,
        tau_shift: int | None = None,
        size_policy: str = "arbitrary",
        color: str = "rgb",
        prompt_lr_scale: float = 1.0,
        weights: str | None = None,
        network: Mapping[str, Any] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.prompt_lr_scale = prompt_lr_scale
        self.tasks, self.size_policy, self.color = tuple(tasks), size_policy, color
        self.native_color = "rgb" if color == "rgb" else "a"
        recipe = adapter(num_experts=num_experts, top_k=top_k, num_tasks=len(self.tasks), router=router, expert=expert)
        self.network: TCMoANetwork | PyramidNetwork
        if isinstance(backbone, PyramidBackbone):
            self.network = PyramidNetwork(backbone, recipe, self.tasks)
            self.starts_classic = True
        else:
            load_backbone(backbone)
            self.network = TCMoANetwork(backbone, recipe, tau, tau_shift, **(network or {}))
        self.size_multiple = self.network.size_multiple
        self.bytes_per_pixel = self.network.bytes_per_pixel
        self.register_buffer("task_indices", torch.arange(len(self.tasks)), persistent=False)
        self.loss = loss
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse values that cannot work together, before any weight is built."""
        n, k, tau = config["num_experts"], config["top_k"], config["tau"]
        if n < 1 or not 1 <= k <= n:
            raise ConfigError(f"model.top_k={k} must lie in 1..model.num_experts={n}")
        if "levels" in config["backbone"]:
            PyramidBackbone.check_config(config["backbone"])
        else:
            for depth in (config["backbone"]["depth"], config["backbone"]["decoder_depth"]):
                site_blocks(depth, tau, config.get("tau_shift"))
            TCMoANetwork.check_config(config.get("network") or {})
        for key, known in (("size_policy", POLICIES), ("color", COLORS)):
            if config.get(key, known[0]) not in known:
                raise ConfigError(f"model.{key}={config[key]} is not one of {', '.join(known)}")
        mode = (config.get("network") or {}).get("down_mode", DOWN_MODES[0])
        if mode not in DOWN_MODES:
            raise ConfigError(f"model.network.down_mode={mode} is not one of {', '.join(DOWN_MODES)}")

    def load_weights(self, weights: str) -> None:
        """Load a checkpoint of this model, ours (trainable part alone, or all) or the official one.

        Raises:
            WeightsError: unavailable, or of another model; the message says what is missing.
        """
        state = read_state(locate(weights))
        if any("blocks_MoA" in key or "blocks_SSF" in key for key in state):
            if isinstance(self.network, PyramidNetwork):
                raise WeightsError(f"{weights}: a released TC-MoA checkpoint, which needs an MAE backbone")
            self.network.load_state_dict(convert_official(state, self.network))
            return
        state = {key.removeprefix("network."): value for key, value in state.items()}
        frozen = {f"backbone.{name}" for name, p in self.network.backbone.named_parameters() if not p.requires_grad}
        load_strict(self.network, state, weights, may_miss=frozen)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of `FusionModel`, with a learning rate of their own for what makes the prompts.

        Raises:
            ConfigError: the prompts' rate is to be scaled, but the optimiser names none.
        """
        groups = super().parameter_groups(weight_decay)
        if self.prompt_lr_scale == 1:
            return groups
        faster = {p for name, p in self.named_parameters() if PROMPT_MAKERS.search(name)}
        lr = getattr(self.optimizer, "keywords", {}).get("lr")
        if lr is None:
            raise ConfigError(
                f"model.prompt_lr_scale={self.prompt_lr_scale} needs optimizer.lr: set it, or set the scale to 1"
            )
        lr *= self.prompt_lr_scale
        slow_groups = [{**group, "params": [p for p in group["params"] if p not in faster]} for group in groups]
        fast_groups = [{**group, "params": [p for p in group["params"] if p in faster], "lr": lr} for group in groups]
        return slow_groups + fast_groups

    def forward(  # type: ignore[override]
        self,
        a: Tensor,
        b: Tensor,
        task: str,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        center: float = 0.5,
        sites: Sequence[str] | None = None,
        task_weights: Mapping[str, float] | None = None,
        site_tasks: Sequence[str] | None = None,
        whole: Whole | None = None,
    ) -> FusionOutput:
        """Fuse pairs whose sides are multiples of `size_multiple`.

        Args:
            a, b: `(B, 3, H, W)` in [0, 1].
            task: one of `tasks`, or of the unseen tasks that borrow a router.
            alpha, beta, center: steering of the prompts, see `PromptControl`.
            sites: sites that are steered ("encoder.1", ...); all by default.
            task_weights: mix of the tasks' routers, e.g. `{"vif": 0.5, "mff": 0.5}`, in place of `task` (Fig. 7).
            site_tasks: one task per site, in place of `task`.
            whole: of the pictures whose tiles `a` and `b` are, see `PyramidNetwork`.

        Raises:
            ConfigError: a task or site that the model does not have.
        """
        control = self._controls(PromptControl(alpha, beta, center), sites)
        routing = self._routing(task, task_weights, site_tasks)
        if isinstance(self.network, PyramidNetwork):  # fuses luma and chroma by their own weights
            return self.network(a, b, routing, control, whole)
        if self.color == "rgb":
            return self.network(a, b, routing, control)
        (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
        output = self.network(luma_a.expand_as(a), luma_b.expand_as(b), routing, control)
        chroma = chroma_a if UNSEEN.get(task, task) == "vif" else merge_chroma(chroma_a, chroma_b)
        output.fused = join_luma(split_luma(output.fused)[0], chroma)
        return output

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms of the batch's task, in float32 whatever the precision of the network."""
        with torch.autocast(output.fused.device.type, enabled=False):
            return self.loss(output, batch, self.current_epoch)

    def _fuse_within(self, a: Tensor, b: Tensor, task: str, limit: int, **controls: Any) -> FusionOutput:
        pixels, network = a.shape[-2] * a.shape[-1], self.network
        fits = pixels_at_once(limit, self.bytes_per_pixel, pixels, a.device)
        if isinstance(network, PyramidNetwork):
            margin = min(SEEN, network.reach)
            side = min(side_of(fits, Reach(margin, network.tile_grid)), LARGEST)
            return self._fuse_pyramid(a, b, task, (min(WHOLE, fits), side, margin), **controls)
        if len(a) > 1 or pixels <= fits or self.size_policy == "tile448":
            return super()._fuse_within(a, b, task, limit, **controls)
        kept = (PICTURE + network.kept_bytes_per_pixel) * pixels
        network.tokens_at_once = network.tokens_in(min(limit - kept, PAYS))
        if network.tokens_at_once is None:  # not even the tokens of all blocks' inputs fit
            return FusionOutput(self._fuse_blended(a, b, task, fits, **controls))
        try:
            return self._fuse_tensor(a, b, task, **controls)
        finally:
            network.tokens_at_once = None

    def _fuse_blended(self, a: Tensor, b: Tensor, task: str, pixels: int, **controls: Any) -> Tensor:
        """Overlapping tiles of about so many pixels: their borders, positions and statistics are their own, so they only resemble
        the whole, and are blended over two windows.
        """
        window = self.size_multiple
        side = max(math.isqrt(pixels) // window, 4) * window
        return run_blended(lambda x, y: self._fuse_tensor(x, y, task, **controls).fused, a, b, side, 2 * window, window)

    def _fuse_pyramid(
        self, a: Tensor, b: Tensor, task: str, sizes: tuple[int, int, int | None], **controls: Any
    ) -> FusionOutput:
        assert isinstance(self.network, PyramidNetwork)

        network = self.network
        routing = self._routing(task, controls.get("task_weights"), controls.get("site_tasks"))

        def run(x: Tensor, y: Tensor, **whole: Any) -> FusionOutput:
            return self(x, y, task, **controls, **whole)

        def prompts(lumas: Sequence[Tensor], known: Whole) -> Tensor:
            return base_prompts(network, lumas, routing, known)

        return fuse_pyramid(run, a, b, network, prompts, *sizes)

    def _fuse_tensor(self, a: Tensor, b: Tensor, task: str, **controls: Any) -> FusionOutput:
        if isinstance(self.network, PyramidNetwork):
            return self._fuse_pyramid(a, b, task, (WHOLE, TILE, None), **controls)
        return fuse_any_size(lambda x, y: self(x, y, task, **controls), a, b, self.size_multiple, self.size_policy)

    @property
    def fuses_all(self) -> bool:  # type: ignore[override]
        """Whether it has prompts for any number of sources: on a pyramid, see `fusion.models.tcmoa.many`."""
        return isinstance(self.network, PyramidNetwork)

    def fuse_all(  # type: ignore[override]
        self,
        images: Sequence[Tensor],
        task: str,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        center: float = 0.5,
        sites: Sequence[str] | None = None,
        task_weights: Mapping[str, float] | None = None,
        site_tasks: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> FusionOutput:
        """Fuse `(1, 3, H, W)` sources of any number and size within `limit` bytes; see `forward` for the controls."""
        if not isinstance(self.network, PyramidNetwork):
            return super().fuse_all(images, task)
        control = self._controls(PromptControl(alpha, beta, center), sites)
        routing, whole, tile = self._routing(task, task_weights, site_tasks), WHOLE, TILE
        if limit is not None:
            need = self.bytes_per_pixel * len(images) / 2  # grows with the sources, and slowly with their pairs
            fits = pixels_at_once(limit, need, images[0].shape[-2] * images[0].shape[-1], self.device)
            whole = min(WHOLE, fits)
            tile = min(TILE, side_of(fits, Reach(self.network.reach, self.network.tile_grid)))
        return fuse_pyramid_of_many(images, self.network, routing, control, whole, tile)

    def frozen_state_keys(self) -> set[str]:
        """The frozen backbone, where it came from named weights."""
        backbone = self.network.backbone
        if backbone.weights is None:
            return set()
        return {f"network.backbone.{name}" for name, p in backbone.named_parameters() if not p.requires_grad}

    def backbone_name(self) -> str:
        """Name or path of the backbone's weights."""
        return str(self.network.backbone.weights)

    @property
    def padded_multiple(self) -> int:
        """See `FusionModel`."""
        return self.network.tile_grid if isinstance(self.network, PyramidNetwork) else self.size_multiple

    @property
    def site_names(self) -> list[str]:
        """Adapter sites in the order of a forward pass."""
        if isinstance(self.network, PyramidNetwork):
            return self.network.site_names
        return [f"{stage}.{block}" for stage in ("encoder", "decoder") for block in getattr(self.network, stage).sites]

    def _task_index(self, task: str) -> int:
        task = UNSEEN.get(task, task)
        if task not in self.tasks:
            raise ConfigError(f"task '{task}' is not one of {', '.join((*self.tasks, *UNSEEN))}")
        return self.tasks.index(task)

    def _routing(
        self, task: str, task_weights: Mapping[str, float] | None, site_tasks: Sequence[str] | None
    ) -> TaskWeights | list[TaskWeights]:
        # A tensor where the network is compiled: it would be compiled again for every integer.
        indices = self.task_indices if is_compiled(self.network) else range(len(self.tasks))
        if site_tasks is not None:
            return [indices[self._task_index(name)] for name in site_tasks]
        if task_weights is None:
            return indices[self._task_index(task)]
        mix = torch.zeros(len(self.tasks), device=self.device)
        for name, weight in task_weights.items():
            mix[self._task_index(name)] = weight
        return mix

    def _controls(self, control: PromptControl, sites: Sequence[str] | None) -> PromptControl | list[PromptControl]:
        if sites is None:
            return control
        unknown = set(sites) - set(self.site_names)
        if unknown:
            raise ConfigError(f"sites {sorted(unknown)} are not among {', '.join(self.site_names)}")
        return [control if name in sites else PromptControl() for name in self.site_names]
