"""A model that someone might bring along: small, noisy while it trains, with a frozen part."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.moe.routing import Routing


class TinyFusion(FusionModel):
    """Two 3x3 convolutions on a frozen 1x1 one; a gate per task weighs the sources.

    Args:
        width: channels.
        noise: scale of the noise that training adds to the gate.
        backbone_seed: seed of the frozen part; None keeps it in checkpoints.
        limit: must not be below `width`.
        base: see `FusionModel`.
    """

    size_multiple = 4

    def __init__(
        self, width: int = 4, noise: float = 0.1, backbone_seed: int | None = 7, limit: int = 64, **base: Any
    ) -> None:
        super().__init__(**base)
        self.noise, self.backbone_seed = noise, backbone_seed
        generator = torch.Generator().manual_seed(backbone_seed or 0)
        self.frozen = nn.Conv2d(3, width, 1)
        for parameter in self.frozen.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
            parameter.requires_grad_(False)
        self.network = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 3, 3, padding=1)
        )
        self.gates = nn.ParameterDict({task: nn.Parameter(torch.zeros(2)) for task in ("vif", "mef", "mff")})

    @staticmethod
    def check_config(config: dict[str, Any]) -> None:
        """Refuse a width beyond the limit."""
        if config.get("width", 4) > config.get("limit", 64):
            raise ConfigError(f"width={config['width']} is above limit={config['limit']}")

    def frozen_state_keys(self) -> set[str]:
        return set() if self.backbone_seed is None else {"frozen.weight", "frozen.bias"}

    def backbone_name(self) -> str:
        return f"seed-{self.backbone_seed}"

    def forward(self, a: Tensor, b: Tensor, task: str, gain: float = 1.0) -> FusionOutput:
        gate = self.gates[task]
        if self.training:
            gate = gate + self.noise * torch.randn_like(gate)
        gate = gate.softmax(0)
        features = torch.cat([self.frozen(a), self.frozen(b)], 1)
        fused = gain * (gate[0] * a + gate[1] * b) + 0.1 * self.network(features)
        weights = gate.expand(len(a), 2)
        routing = Routing(weights=weights, importance=weights.sum(0), load=weights.sum(0), shape=(len(a),))
        return FusionOutput(fused=fused, routings=[routing], sites=["gate"], prompts=[torch.full_like(a[:, :2], 0.5)])

    def losses(self, output: FusionOutput, batch: Any) -> dict[str, Tensor]:
        target = torch.maximum(batch["a"], batch["b"])
        return {"pixel": (output.fused - target).abs().mean(), "square": (output.fused - target).square().mean()}


class KillAt(Callback):
    """Sends the process a signal at an optimiser step, the one that ends it without warning unless told; once per marker."""

    def __init__(self, step: int, marker: str, signal_name: str = "SIGKILL") -> None:
        self.step, self.marker, self.signal = step, Path(marker), signal.Signals[signal_name]

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and not self.marker.exists():
            self.marker.touch()
            if self.signal is signal.SIGINT:  # which is ignored where a shell put the tests into the background
                signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(os.getpid(), self.signal)


class KillInValidation(Callback):
    """Kills the process in the middle of a validation, once per marker."""

    def __init__(self, epoch: int, marker: str) -> None:
        self.epoch, self.marker = epoch, Path(marker)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
