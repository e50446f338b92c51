"""Fully sharded data parallel training of large backbones, also on the CPU, where it is slow but can be tried."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor


class FSDP(ModelParallelStrategy):
    """Parameters, gradients and optimiser states shared out over all processes (PyTorch's FSDP2).

    Each transformer block is a unit that is gathered while it works; what lies between the blocks is one more. Checkpoints
    are whole, so that they load without FSDP. Frozen parameters are sharded too.

    Validation and test gather the parameters once, before the first pair: ranks have different numbers of pairs, and of
    passes per pair, and a rank that has done its share would leave the others waiting for its part of a block. Gradients
    and optimiser states, which are most of the memory, stay shared out.

    Args:
        reshard_after_forward: give parameters back between forward and backward: less memory, more messages.
        process_group_backend: "gloo" on a CPU; None is nccl on GPUs.
    """

    def __init__(self, reshard_after_forward: bool = True, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )
        self.reshard_after_forward = reshard_after_forward

    def setup_environment(self) -> None:
        """Also decides how many processes share: all of them."""
        assert self.cluster_environment is not None
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Shard the model, then do what Lightning does."""
        module: Any = self.lightning_module
        if hasattr(module, "frozen_state_keys"):
            keys = module.frozen_state_keys()
            module._digest(keys)  # of whole weights, for checkpoints
            module.strict_loading = not keys  # checkpoints leave them out
        if not isinstance(next(module.parameters()), DTensor):
            module.configure_model = lambda: None  # Lightning insists on it
            mesh = self.device_mesh["data_parallel"]
            scalars = {
                p for p in module.parameters() if p.ndim == 0
            }  # FSDP cannot share these out: every process has them
            for scalar in scalars:
                if scalar.requires_grad:
                    scalar.register_post_accumulate_grad_hook(_average_gradient)
            for block in [inner for inner in module.modules() if isinstance(inner, Block)]:
                self._shard(block, mesh, scalars)
            self._shard(module, mesh, scalars)
        super().setup(trainer)

    def on_validation_start(self) -> None:
        """Gather the parameters."""
        self._gather()

    def on_validation_end(self) -> None:
        """Share the parameters out again."""
        self._share_out()

    def on_test_start(self) -> None:
        """Gather the parameters."""
        self._gather()

    def on_test_end(self) -> None:
        """Share the parameters out again."""
        self._share_out()

    def on_predict_start(self) -> None:
        """Gather the parameters."""
        self._gather()

    def on_predict_end(self) -> None:
        """Share the parameters out again."""
        self._share_out()

    def _gather(self) -> None:
        for unit in self._units():
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()

    def _share_out(self) -> None:
        for unit in self._units():
            unit.reshard()
            unit.set_reshard_after_forward(self.reshard_after_forward, recurse=False)

    def _units(self) -> list[FSDPModule]:
        assert self.lightning_module is not None
        return [module for module in self.lightning_module.modules() if isinstance(module, FSDPModule)]

    def _shard(self, module: Any, mesh: Any, scalars: set[Any]) -> None:
        fully_shard(module, mesh=mesh, reshard_after_forward=self.reshard_after_forward, ignored_params=scalars)


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def own_class(module: nn.Module) -> type:
    """Class of a module, without the one that FSDP puts over it."""
    return next(cls for cls in type(module).__mro__ if not issubclass(cls, FSDPModule))


def sharded(trainer: Trainer) -> bool:
    """Whether each process holds only a part of the parameters and gradients."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def total_norm(tensors: Sequence[Tensor], trainer: Trainer) -> Tensor:
    """2-norm over tensors as one vector, over all processes where they are sharded."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    norms = torch._foreach_norm([part.float() for part in parts if part.numel()])
    squared = torch.stack(norms).square().sum() if norms else torch.zeros((), device=trainer.strategy.root_device)
    if sharded(trainer):
        dist.all_reduce(squared)
    return squared.sqrt()
