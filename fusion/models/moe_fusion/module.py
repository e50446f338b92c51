"""MoE-Fusion as a LightningModule."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, DataError
from fusion.hub import load_strict, locate, read_state
from fusion.layers.borders import cut, extend
from fusion.layers.color import join_luma, split_luma
from fusion.models.base import FusionModel
from fusion.models.moe_fusion.attention import Attention, AttentionMap, Boxes
from fusion.models.moe_fusion.convert import convert_official, is_official
from fusion.models.moe_fusion.local import Gates, LocalPart
from fusion.models.moe_fusion.network import MoEFusionNetwork
from fusion.models.moe_fusion.tiles import fuse_tiles
from fusion.models.output import FusionOutput

log = logging.getLogger(__name__)
COLORS = ("visible", "gray")


class MoEFusion(FusionModel):
    """Multi-modal gated mixture of local-to-global experts (Cao et al., ICCV 2023).

    Fuses the luma; the chroma of the visible image comes back (Sec. 4.2).

    Args:
        attention: where the foreground is, see `attention.py` and `detectors.py`.
        local, decoder, router: parts of the network, see `MoEFusionNetwork`.
        loss: objective of the fusion network, `(output, batch) -> terms`.
        num_experts: N of each mixture, even.
        top_k: K.
        network: further arguments of `MoEFusionNetwork`.
        color: "visible" gives RGB with the chroma of `a`, "gray" the fused luma alone.
        work_size: height and width that pairs are resized to and fused at, as in the released code (480x640); None fuses
            them as they are.
        detection: weight of the detectors' losses.
        decay_all: weight decay on vectors and biases too, as in the released code.
        weights: name or path of weights for the fusion network: a checkpoint of ours or a file of the released code.
        border: pixels by which pairs are extended by reflection when they are fused, cut off again afterwards. The gradient loss
            sees zeros beyond the border and so teaches a frame of light and dark pixels; 12 keeps all of it off the picture. 0 as
            in the released code.
        base: see `FusionModel`.
    """

    example_size = (64, 96)
    bytes_per_pixel = 2200
    image_controls = ("boxes", "attention")
    native_color = "a"
    weights_help = (
        "nobody released weights of MoE-Fusion; train it (experiment=moe_fusion_m3fd) and give ckpt_path=RUN_FOLDER, or a "
        "file in the layout of the released code"
    )

    def __init__(
        self,
        attention: Attention,
        local: Callable[..., LocalPart],
        decoder: Callable[..., nn.Module],
        router: Callable[..., nn.Module],
        loss: nn.Module,
        num_experts: int = 4,
        top_k: int = 2,
        network: Mapping[str, Any] | None = None,
        color: str = "visible",
        work_size: Sequence[int] | None = None,
        detection: float = 1.0,
        decay_all: bool = True,
        weights: str | None = None,
        border: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.attention = attention
        self.network = MoEFusionNetwork(local, decoder, router, num_experts, top_k, **(network or {}))
        self.loss = loss
        self.color, self.detection, self.decay_all = "gray" if color == "grey" else color, detection, decay_all
        self.work_size = None if work_size is None else (int(work_size[0]), int(work_size[1]))
        self.border = border
        self._attention_loaded = False
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse values that cannot work together, before any weight is built."""
        n, k = config["num_experts"], config["top_k"]
        if n < 1 or not 1 <= k <= n:
            raise ConfigError(f"model.top_k={k} must lie in 1..model.num_experts={n}")
        if str(config["local"].get("_target_", "")).endswith("MixtureOfLocalExperts") and n % 2:
            raise ConfigError(f"model.num_experts={n} must be even: half serve the visible, half the infrared image")
        if config.get("color", COLORS[0]) not in (*COLORS, "grey"):  # grey: runs of version 0.1
            raise ConfigError(f"model.color={config['color']} is not one of {', '.join(COLORS)}")
        if config.get("border", 0) < 0:
            raise ConfigError(f"model.border={config['border']}: expected a number of pixels from 0")
        size = config.get("work_size")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ConfigError(f"model.work_size={size}: expected height and width in pixels, or null")

    def load_weights(self, weights: str) -> None:
        """Load the fusion network, from a file of ours or of the released code; the attention stays as it is.

        Raises:
            WeightsError: unavailable, or of another network.
        """
        state = read_state(locate(weights))
        if is_official(state):
            self.network.load_state_dict(convert_official(state, self.network))
            return
        if any(key.startswith("network.") for key in state):
            state = {key.removeprefix("network."): v for key, v in state.items() if key.startswith("network.")}
        load_strict(self.network, state, weights)

    # Forward ---------------------------------------------------------------------------------------------------------

    def forward(  # type: ignore[override]
        self,
        a: Tensor,
        b: Tensor,
        task: str = "vif",
        *,
        boxes: Boxes | None = None,
        attention: Tensor | None = None,
        gates: Gates | None = None,
        show_experts: bool = False,
    ) -> FusionOutput:
        """Fuse pairs of any size.

        Args:
            a, b: visible and infrared `(B, 3, H, W)` in [0, 1].
            task: not looked at, the network knows one.
            boxes: per image `(n, 4)` x1, y1, x2, y2 in pixels, for attention from boxes.
            attention: `(B, 1, H, W)` map in [0, 1] in place of the model's own, which then is not asked.
            gates: N fixed numbers by site ("foreground", "background", "global") in place of the routers' decisions.
            show_experts: put every expert's output into `extras["experts"]`, by site, `(N, B, C, H, W)`.

        Returns:
            `fused` `(B, 3, H, W)`, or `(B, 1, H, W)` for "gray"; extras: `luma` (not bounded), `luma_a`, `luma_b`,
            `attention`, `detail` of the attention.

        Raises:
            ConfigError: gates for a site that is not there.
            DataError: boxes are needed and missing, or an attention map of another shape.
        """
        luma_a, chroma = split_luma(a)
        luma_b = split_luma(b)[0]
        guide = self.attention(luma_a, luma_b, boxes) if attention is None else _given(attention, luma_a)
        edge = 0 if self.training else self.border
        mixed = self.network(*(extend(image, edge) for image in (luma_a, luma_b, guide.map)), gates, show_experts)
        luma = cut(mixed.features, edge)
        fused = luma.clamp(0, 1) if self.color == "gray" else join_luma(luma.clamp(0, 1), chroma.float())
        extras: dict[str, Any] = {"luma": luma, "luma_a": luma_a.float(), "luma_b": luma_b.float()}
        extras |= {"attention": guide.map.float(), "detail": guide}
        if show_experts:
            extras["experts"] = {site: cut(features, edge) for site, features in mixed.experts.items()}
        sites = list(mixed.routings)
        return FusionOutput(fused, routings=list(mixed.routings.values()), sites=sites, extras=extras)

    def _by_tiles(self) -> bool:
        return self.work_size is None  # else the network sees that size only

    def _fuse_tiles(  # type: ignore[override]
        self,
        a: Tensor,
        b: Tensor,
        task: str,
        pixels: int,
        boxes: Boxes | None = None,
        attention: Tensor | None = None,
        gates: Gates | None = None,
        show_experts: bool = False,
    ) -> FusionOutput:
        luma_a, chroma = split_luma(a)
        luma_b = split_luma(b)[0]
        if attention is not None:
            seen = _given(attention, luma_a).map
        elif self.attention.looks_at_little:
            seen = self.attention(luma_a, luma_b, boxes).map
        else:  # detectors see a reduced picture; their maps are coarse
            factor = min((pixels / (a.shape[-2] * a.shape[-1])) ** 0.5, 1.0)
            small = (max(round(a.shape[-2] * factor), 32), max(round(a.shape[-1] * factor), 32))
            seen = self.attention(_resize(luma_a, small), _resize(luma_b, small), boxes).map
            seen = F.interpolate(seen, a.shape[-2:], mode="bilinear", align_corners=False)
        wide_a, wide_b, wide_seen = (extend(image, self.border) for image in (luma_a, luma_b, seen.to(luma_a)))
        luma = cut(fuse_tiles(self.network, wide_a, wide_b, wide_seen, pixels, gates or {}), self.border)
        fused = luma.clamp(0, 1) if self.color == "gray" else join_luma(luma.clamp(0, 1), chroma.float())
        return FusionOutput(fused, extras={"luma": luma, "attention": seen.float()})

    def _fuse_tensor(self, a: Tensor, b: Tensor, task: str, **controls: Any) -> FusionOutput:
        if self.work_size is None:
            return self(a, b, task, **controls)
        height, width = a.shape[-2:]
        if controls.get("boxes") is not None:
            scale = a.new_tensor([self.work_size[1] / width, self.work_size[0] / height]).repeat(2)
            controls["boxes"] = [box.to(scale) * scale for box in controls["boxes"]]
        if controls.get("attention") is not None:
            controls["attention"] = _resize(controls["attention"].to(a), self.work_size)
        output = self(_resize(a, self.work_size), _resize(b, self.work_size), task, **controls)
        output.fused = _resize(output.fused, (height, width))
        return output

    # Training --------------------------------------------------------------------------------------------------------

    def batch_controls(self, batch: FusionBatch) -> dict[str, Any]:
        """The boxes of a batch, where it has them."""
        return {"boxes": batch["boxes"]} if "boxes" in batch else {}

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms of the fusion network, and of the detectors where they train.

        Raises:
            ConfigError: detectors that train, and data without boxes.
        """
        with torch.autocast(output.fused.device.type, enabled=False):
            terms = dict(self.loss(output, batch))
        if self.attention.learns_from_boxes:
            boxes, labels = self._targets(batch)
            found = self.attention.losses(output.extras["detail"], boxes, labels)
            terms |= {name: self.detection * value for name, value in found.items()}
        return terms

    def _targets(self, batch: FusionBatch) -> tuple[Boxes, Sequence[Tensor]]:
        if "boxes" in batch and "labels" in batch:
            return batch["boxes"], batch["labels"]
        if getattr(self._trainer, "fast_dev_run", False):  # only whether it runs is asked
            nothing = [torch.zeros(0, 4)] * len(batch["a"])
            return nothing, [torch.zeros(0, dtype=torch.int64)] * len(batch["a"])
        raise ConfigError(
            "the detectors of model/attention=detector learn from boxes and this data has none: choose data with boxes "
            "(data=m3fd), freeze them (model.attention.train=false), or take model/attention=saliency"
        )

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """All that train; everything decays where `decay_all` says so."""
        if not self.decay_all:
            return super().parameter_groups(weight_decay)
        return [{"params": [p for p in self.parameters() if p.requires_grad], "weight_decay": weight_decay}]

    def setup(self, stage: str) -> None:
        """Training starts from the detectors' pretrained backbones, unless a checkpoint has brought them."""
        if stage != "fit" or self._attention_loaded:
            return
        self._attention_loaded = True
        if getattr(self.trainer, "fast_dev_run", False):
            log.info("fast_dev_run: no pretrained weights are loaded")
            return
        self.attention.load_pretrained()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint brings the detectors too."""
        self._attention_loaded = True
        super().on_load_checkpoint(checkpoint)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        """As the base; each expert's mean gate is logged as `gates/<task>/<site>/<expert>`."""
        output = super()._evaluate(batch)
        for site, routing in zip(output.sites, output.routings, strict=True):
            means = routing.weights.detach().mean(0)
            names = [f"gates/{batch['task']}/{site}/{index}" for index in range(len(means))]
            values = dict(zip(names, means, strict=True))
            self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch["a"]), sync_dist=True)
        return output


def _given(attention: Tensor, like: Tensor) -> AttentionMap:
    if attention.shape != like.shape:
        raise DataError(f"attention of shape {tuple(attention.shape)}: expected {tuple(like.shape)}, as the pairs have")
    return AttentionMap(attention.to(like))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """As training data are resized (PairTransform's `resize`): antialiased, bicubic, within [0, 1]."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
