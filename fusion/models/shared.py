"""Models in folders that are shared: `config.json`, `model.safetensors` and their SHA-256, on disk or on Hugging Face."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fusion.errors import WeightsError
from fusion.hub import REGISTRY
from fusion.models.checkpoint import RECORD

FORMAT = "image-fusion/1"
CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"
EXTRA = "extra:"
"""Prefix of tensors in the file that are no weights, such as the features of known sentences."""
_LARGEST_CONFIG = 1 << 20
_REPO = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w./-]+))?")
_HUB = re.compile(r"hf:/{1,2}(?P<rest>.*)")
_NAMES_FILES = ("weights", "base_weights", "text_cache")


def repository(name: str) -> tuple[str, str | None] | None:
    """Repository and revision of `hf://owner/name@revision` or `owner/name`; None for other names.

    Raises:
        WeightsError: `hf://` and something else behind it.
    """
    marked = _HUB.fullmatch(name)
    found = _REPO.fullmatch(marked["rest"] if marked else name)
    if marked and not found:
        raise WeightsError(f"'{name}': expected hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    if found and (marked or not Path(name).exists()):
        return found["repo"], found["revision"]
    return None


def is_shared(path: Path) -> bool:
    """Whether a folder, or the weights file in it, is such a model."""
    folder = path if path.is_dir() else path.parent if path.name == WEIGHTS else None
    if folder is None or not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        return False
    try:
        return str(_config(folder).get("format", "")).startswith("image-fusion/")
    except WeightsError:
        return True  # to be refused when it is read


def download(repo: str, revision: str | None = None) -> Path:
    """Bring a repository of Hugging Face into its cache; only the three files that are read.

    Raises:
        WeightsError: no network, no such repository, or no such model in it.
    """
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=[CONFIG, WEIGHTS, SUMS])
    except Exception as error:  # errors of HTTP, of names, of the disk
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"hf://{repo}: cannot be downloaded ({said:.200}); check the name and the network (of a folder of yours: its path), "
            "log in with `hf auth login` for a private one, or download it by hand and give the folder"
        ) from error
    if not (Path(folder) / WEIGHTS).is_file():
        raise WeightsError(f"hf://{repo}: no {WEIGHTS} in it, so it is no model of this package")
    return Path(folder)


def read_shared(path: Path) -> dict[str, Any]:
    """Content of a folder as a checkpoint of ours has it.

    What its configuration may build is the closed list of recorded models (`fusion.job.recorded`); names of files in it are
    dropped, for the folder brings all weights.

    Args:
        path: the folder, or the weights file in it.

    Raises:
        WeightsError: a file that is missing, damaged, or not the one that `SHA256SUMS` lists.
    """
    folder = path if path.is_dir() else path.parent
    verify(folder)
    config = _config(folder)
    if config.get("format") != FORMAT:
        raise WeightsError(
            f"{folder / CONFIG}: format {config.get('format')!s:.40}, expected {FORMAT}: of a newer version, or damaged"
        )
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{folder / WEIGHTS}: damaged, or not a safetensors file ({type(error).__name__})"
        ) from error
    extras = {key.removeprefix(EXTRA): tensors.pop(key) for key in list(tensors) if key.startswith(EXTRA)}
    kept = _filled(config.get("extras") or {}, extras, folder, 0)
    if not isinstance(kept, dict) or {"state_dict", RECORD} & kept.keys():
        raise WeightsError(f"{folder / CONFIG}: its extras are damaged")
    record = {"version": config.get("version"), "name": config.get("name"), "model": without_files(config.get("model"))}
    return {**kept, "state_dict": tensors, RECORD: record}


def verify(folder: Path) -> None:
    """Compare the files of a folder with its sums.

    Raises:
        WeightsError: names the file that is missing or another one.
    """
    listed = read_sums(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder}: {name} is missing; expected {CONFIG}, {WEIGHTS} and {SUMS}")
        found = sha256(folder / name)
        if listed.get(name) != found:
            raise WeightsError(
                f"{folder / name}: its sha256 is {found[:16]}..., {SUMS} says {listed.get(name, 'nothing')[:16]}...: damaged or "
                "changed; get it again from where it came"
            )


def read_sums(folder: Path) -> dict[str, str]:
    """Digests by file name, as `sha256sum` writes them.

    Raises:
        WeightsError: no such file, or another content.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{folder / SUMS}: missing or unreadable; expected the sha256 of {CONFIG} and {WEIGHTS}"
        ) from error
    pairs = [re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line) for line in lines if line.strip()]
    if not pairs or None in pairs:
        raise WeightsError(f"{folder / SUMS}: damaged; expected lines of a sha256 and a file name")
    return {pair[2]: pair[1] for pair in pairs if pair}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def without_files(config: Any, of: str = "") -> Any:
    """A model's configuration without the names of files and weights, which would be opened or downloaded.

    Args:
        config: the model's node, or a part of it.
        of: key of that part. A loss has `weights` that are none: they stay unless they look like a file.
    """
    if isinstance(config, Mapping):
        return {
            key: None
            if key in _NAMES_FILES and isinstance(value, str) and (of != "loss" or _is_file_name(value))
            else without_files(value, str(key))
            for key, value in config.items()
        }
    return [without_files(item, of) for item in config] if isinstance(config, list) else config


def _is_file_name(value: str) -> bool:
    return value in REGISTRY or re.search(r"[/\\.~]", value) is not None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise WeightsError(f"{path}: larger than any configuration of a model")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def flattened(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Plain values with tensors moved into `tensors`, each replaced by `{"tensor": name}`; the way back is in `read_shared`."""
    if isinstance(value, Tensor):
        name = f"{EXTRA}{len(tensors)}"
        tensors[name] = value
        return {"tensor": name.removeprefix(EXTRA)}
    if isinstance(value, Mapping):
        return {str(key): flattened(item, tensors) for key, item in value.items()}
    return value


def _filled(value: Any, tensors: Mapping[str, Tensor], folder: Path, depth: int) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"tensor"}:
        if value["tensor"] not in tensors:
            raise WeightsError(f"{folder / WEIGHTS}: the tensor {EXTRA}{value['tensor']!s:.40} is missing")
        return tensors[value["tensor"]]
    if depth > 8:
        raise WeightsError(f"{folder / CONFIG}: its extras are damaged (nested too deeply)")
    return {key: _filled(item, tensors, folder, depth + 1) for key, item in value.items()}
