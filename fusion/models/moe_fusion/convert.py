"""Reading state dicts of the released MoE-Fusion code into ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.models.moe_fusion.network import MoEFusionNetwork

MARK = "Conv1.conv_r.weight"
"""A key that every official state dict has, whatever it is wrapped in."""
_STREAM = {"r": "a", "i": "b"}
_MIXTURE = {"encoder.moe_fg": "local.foreground", "encoder.moe_bg": "local.background", "DecoderMoE": "decoder"}


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the released code."""
    return any(key.endswith(f"encoder.{MARK}") for key in state)


def convert_official(state: Mapping[str, Tensor], network: MoEFusionNetwork) -> dict[str, Tensor]:
    """Rename the keys of the released fusion head; the detectors' are left aside.

    Args:
        state: official names, perhaps behind a prefix.
        network: ours, of the same shape.

    Raises:
        WeightsError: what is missing or has another shape; gates fit one grid only.
    """
    prefix = next(key for key in state if key.endswith(f"encoder.{MARK}")).removesuffix(f"encoder.{MARK}")
    found = {}
    for key, value in state.items():
        name = _rename(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if name is not None:
            found[name] = value.unsqueeze(0) if name.endswith(("w_gate", "w_noise")) else value
    own = network.state_dict()
    missing = sorted(own.keys() - found.keys())
    if missing:
        raise WeightsError(f"official MoE-Fusion weights lack {missing[0]} ({len(missing)} in all)")
    for key, value in own.items():
        if found[key].shape != value.shape:
            hint = "; set the grids to a quarter (local) and an eighth (decoder) of the size it was trained at"
            theirs, ours = tuple(found[key].shape), tuple(value.shape)
            raise WeightsError(f"official MoE-Fusion weights: {key} is {theirs}, here {ours}{hint}")
    return {key: torch.as_tensor(found[key]) for key in own}


def _rename(key: str) -> str | None:
    if match := re.fullmatch(r"encoder\.(Conv1|DenseConv(\d))\.conv_([ri])\.(weight|bias)", key):
        layer = "stem" if match[2] is None else f"dense.{int(match[2]) - 1}"
        return f"encoder_{_STREAM[match[3]]}.{layer}.{match[4]}"
    for theirs, ours in _MIXTURE.items():
        if match := re.fullmatch(re.escape(theirs) + r"\.(w_gate|w_noise)", key):
            return f"{ours}.gate.router.{match[1]}"
        if match := re.fullmatch(re.escape(theirs) + r"\.experts\.(\d+)\.(?:decoder_C|c)onv(\d)\.(weight|bias)", key):
            first = 2 if theirs == "DecoderMoE" else 1  # their decoders count from 2
            return f"{ours}.experts.{match[1]}.{2 * (int(match[2]) - first)}.{match[3]}"
    return None  # constants, and the detectors
