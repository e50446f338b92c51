"""Fully sharded data parallel training of large backbones, also on the CPU, where it is slow but can be tried."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy


class FSDP(FSDPStrategy):
    """Lightning's FSDP with what our models need.

    Original parameters stay visible, because trained adapters sit beside frozen blocks; each transformer block is a
    unit; checkpoints hold whole weights, so that they load without FSDP. Lightning itself refuses a CPU; this class does
    not.

    Args:
        wrapped: classes whose instances become units; None takes timm's transformer blocks.
        **options: of `FSDPStrategy`: `sharding_strategy`, `cpu_offload`, `process_group_backend`, ...
    """

    strategy_name = "fusion_fsdp"

    def __init__(self, wrapped: Sequence[type[nn.Module]] | None = None, **options: Any) -> None:
        policy: Callable[..., bool] = partial(
            transformer_auto_wrap_policy, transformer_layer_cls=set(wrapped or (Block,))
        )
        given = {"auto_wrap_policy": policy, "use_orig_params": True, "state_dict_type": "full"} | options
        super().__init__(**given)


def sharded(trainer: Trainer) -> bool:
    """Whether each process holds only a part of the parameters and gradients."""
    return isinstance(trainer.strategy, FSDPStrategy)


def total_norm(tensors: Sequence[Tensor], trainer: Trainer) -> Tensor:
    """2-norm over tensors as one vector, over all processes where they are sharded."""
    norms = torch._foreach_norm([tensor.float() for tensor in tensors if tensor.numel()])
    squared = torch.stack(norms).square().sum() if norms else torch.zeros((), device=trainer.strategy.root_device)
    if sharded(trainer):
        dist.all_reduce(squared)
    return squared.sqrt()
