"""`torch.compile` of a network in place, in the modes that a configuration may name."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError

MODES = ("default", "reduce-overhead", "max-autotune")
"""Fused kernels; these in a CUDA graph, without launches from Python; the same with every kernel's settings tried out."""


def compile_mode(value: str | bool | None) -> str | None:
    """The mode that a configuration's `compile` asks for; None: do not compile. True is "default".

    Raises:
        ConfigError: lists the known values.
    """
    if value in (False, None, "false"):
        return None
    if value in (True, "true"):
        return "default"
    if value not in MODES:
        raise ConfigError(f"compile={value} is not one of {', '.join(MODES)}, false")
    return str(value)


def compile_in_place(network: nn.Module, mode: str = "default") -> None:
    """Compile a network so that its state-dict keys stay.

    CUDA graphs write the results of every run into the same memory. Those of a "reduce-overhead" or "max-autotune" network are
    therefore copied before they are handed out, so that they can be kept.

    Args:
        network: its `forward` is compiled when first called.
        mode: one of `MODES`.
    """
    network.compile(mode=None if mode == "default" else mode)
    if mode != "default" and (compiled := network._compiled_call_impl) is not None:
        network._compiled_call_impl = _keeping_results(compiled)


def is_compiled(network: nn.Module) -> bool:
    """Whether the network was compiled in place."""
    return network._compiled_call_impl is not None


def _keeping_results(compiled: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return copied(compiled(*arguments, **named))

    return call


def copied(value: Any) -> Any:
    """A result with tensors of its own: tensors, and what dataclasses, lists, tuples and dictionaries hold."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: copied(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
