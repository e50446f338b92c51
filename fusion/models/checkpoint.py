"""What a model's checkpoint says about itself, and weights that are left out because a named file brings them back."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.version import __version__

RECORD = "fusion"
"""Key of our record in a checkpoint."""


def state_digest(state: Mapping[str, Tensor], keys: Iterable[str]) -> str:
    """SHA-256 over names, types, shapes and values of some entries of a state dict, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(keys):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_record(
    checkpoint: dict[str, Any], about: dict[str, Any], frozen: set[str], frozen_digest: str | None, backbone: str
) -> None:
    """Add our record to a checkpoint and take the frozen entries out of its state dict.

    Args:
        checkpoint: changed in place.
        about: plain facts: `name` of the run, `model` configuration, `fingerprint`.
        frozen: state-dict keys to leave out.
        frozen_digest: `state_digest` of them.
        backbone: name of the weights they came from.
    """
    left_out = {"sha256": frozen_digest, "keys": sorted(frozen), "backbone": backbone} if frozen else {}
    checkpoint[RECORD] = {"version": __version__, **about, "frozen": left_out}
    checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key not in frozen}


def restore_frozen(
    checkpoint: dict[str, Any], state: Mapping[str, Tensor], frozen: set[str], frozen_digest: str | None, backbone: str
) -> None:
    """Put the model's own frozen entries back into a checkpoint's state dict, after checking that they are the same.

    Raises:
        WeightsError: the checkpoint was trained on another frozen backbone.
    """
    saved = checkpoint.get(RECORD, {}).get("frozen") or {}
    if not saved:
        return
    if frozen_digest is None or frozen_digest != saved["sha256"]:
        has = f"'{backbone}' (sha256 {(frozen_digest or 'none')[:12]})" if frozen else "no frozen backbone"
        raise WeightsError(
            f"this checkpoint stands on the frozen backbone '{saved['backbone']}' (sha256 {saved['sha256'][:12]}), "
            f"but the model has {has}: build the model with the backbone weights it was trained on"
        )
    checkpoint.setdefault("state_dict", {})  # FSDP has loaded it by itself
    checkpoint["state_dict"] |= {key: state[key] for key in saved["keys"]}
