"""Gradients through attention whose position bias trains under frozen weights."""

from typing import Any

import torch
from torch import Tensor


class _Follow(torch.autograd.Function):
    """The identity; its output requires a gradient as soon as the second input does. That gradient goes nowhere."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, source: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:  # type: ignore[override]
        return None, None


def require_grad_with(tensor: Tensor, source: Tensor | None) -> Tensor:
    """`tensor` as it is, requiring a gradient if `source` does and gradients are on.

    PyTorch's memory-efficient attention on CUDA keeps the log-sum-exp that its backward pass reads only if the query, key or value
    requires a gradient. Where they come from frozen layers and the attention bias trains, the backward pass fails ("LSE is not
    correctly aligned"). What enters such an attention therefore passes here first. Does nothing where `tensor` requires a gradient
    already, so that no part of a backward pass runs twice or for nothing beyond the first such block.

    Args:
        tensor: what the queries, keys or values are made of, or one of these.
        source: the attention bias; None: there is none.

    Returns:
        The same values, of the same shape.
    """
    if source is None or tensor.requires_grad or not source.requires_grad or not torch.is_grad_enabled():
        return tensor
    return _Follow.apply(tensor, source)
