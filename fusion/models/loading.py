"""Load checkpoints, ours or an official release, into a model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fusion.errors import WeightsError
from fusion.files import is_bomb
from fusion.hub import differences
from fusion.models.checkpoint import RECORD
from fusion.models.shared import WEIGHTS, download, is_shared, read_shared, repository
from fusion.models.trained import TrainedModel


def find_checkpoint(path: str | Path) -> Path:
    """The weights file that `path` means: itself, the best, else the last checkpoint of a run folder, or of a shared model.

    Args:
        path: a file, a run folder, or a shared model: its folder or `hf://OWNER/NAME`.

    Raises:
        WeightsError: there is none.
    """
    if str(path).startswith("hf:/") and (place := repository(str(path))) is not None:
        return download(*place) / WEIGHTS
    path = Path(path).expanduser()
    if path.is_dir() and is_shared(path):
        return path / WEIGHTS
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    what = "no checkpoints/best.ckpt or last.ckpt in this folder" if path.is_dir() else "no such file"
    raise WeightsError(f"ckpt_path={path}: {what}; expected a checkpoint, a safetensors file or a run folder")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or a shared model as one, without running any code of it.

    Raises:
        WeightsError: damaged, or holding more than tensors and plain values.
    """
    try:
        if is_shared(path):
            return read_shared(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_bomb(path):
            raise WeightsError(f"{path}: refused, it grows when it is unpacked")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, MemoryError) as error:
        raise WeightsError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
    except WeightsError:
        raise
    except Exception as error:  # torch.load raises pickle errors of several kinds
        raise WeightsError(f"{path}: refused, it holds more than tensors and plain values") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def recorded_model(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Configuration of the model that a checkpoint of ours was saved from, as the file has it; None if it has none."""
    record = checkpoint.get(RECORD)
    return record["model"] if isinstance(record, dict) and record.get("model") else None


def recorded_name(checkpoint: dict[str, Any]) -> str | None:
    """Name of the run that saved a checkpoint, as a word that is safe in paths; None if it does not say."""
    record = checkpoint.get(RECORD)
    name = record.get("name") if isinstance(record, dict) else None
    return re.sub(r"[^\w.-]+|^\.+", "_", name)[:100] if isinstance(name, str) and name else None


def load_checkpoint(model: TrainedModel, path: str | Path, checkpoint: dict[str, Any] | None = None) -> None:
    """Load weights into a model, strictly.

    Checkpoints of this platform bring what they were saved with, less the frozen parts that the model already has.
    Files of others go to the model's `load_weights`, where it has one, which knows their layout.

    Args:
        model: the model.
        path: weights file or run folder.
        checkpoint: content of the file, if it has been read already.

    Raises:
        WeightsError: missing or damaged file, or weights of another model; the line names the keys.
    """
    path = find_checkpoint(path)
    own_reader = getattr(model, "load_weights", None)
    if checkpoint is None and path.suffix not in (".ckpt", ".safetensors") and own_reader is not None:
        own_reader(str(path))
        return
    content = dict(checkpoint if checkpoint is not None else read_checkpoint(path))
    if RECORD not in content:
        if own_reader is not None:
            own_reader(str(path))
            return
        content = {"state_dict": content.get("state_dict", content)}
    check_state(content.get("state_dict"), path)
    content["state_dict"] = dict(content["state_dict"])
    saved = recorded_model(content)
    saved_from = str(saved.get("_target_", "") if isinstance(saved, Mapping) else "").rsplit(".", 1)[-1]
    if saved_from and saved_from not in (cls.__name__ for cls in type(model).__mro__):
        raise WeightsError(
            f"{path} holds a {saved_from}, not a {type(model).__name__}: choose its model, or leave it out"
        )
    try:
        model.on_load_checkpoint(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its record is damaged ({type(error).__name__})") from error
    state = content["state_dict"]
    if problems := differences(model.state_dict(), state):
        raise WeightsError(f"{path}: these are not the weights of this {type(model).__name__}: {problems}")
    model.load_state_dict(state)


def check_state(state: Any, path: Path) -> None:
    """Refuse what is no state dict.

    Raises:
        WeightsError: not a mapping of names to tensors.
    """
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{path}: no state dict in it, expected names with tensors")
