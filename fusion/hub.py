"""Weights by name: where they come from, where they are kept, and strict loading with an explained difference."""

import argparse
import contextlib
import hashlib
import os
import urllib.error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.hub import download_url_to_file

from fusion.errors import WeightsError
from fusion.files import atomic, is_bomb, write_text

SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Weights:
    """Where named weights come from.

    Attributes:
        filename: in the cache folder, or among the shipped weights.
        source: what they are and who made them.
        url: direct download, or None where a person must fetch them from `page`.
        page: where a person gets them.
        sha256: of the file, where it is known.
    """

    filename: str
    source: str
    url: str | None = None
    page: str | None = None
    sha256: str | None = None


_MAE_URL = "https://dl.fbaipublicfiles.com/mae/visualize/"
_MAE_SOURCE = "MAE (He et al., CVPR 2022), visualisation checkpoint that predicts plain pixels"

REGISTRY: dict[str, Weights] = {
    "mae_tiny": Weights(
        "mae_tiny.safetensors",
        "pretrained here: experiments/tiny",
        sha256="88e77f71d00ce478e2b114800a774a61e01a172b181b3a3d005f5c7c8cd00009",
    ),
    "tcmoa_tiny": Weights(
        "tcmoa_tiny.safetensors",
        "trained here on mae_tiny: experiments/tiny",
        sha256="46bb3c8d4296b06ef152cd0960b6ffdb3b844001f583f81ccbeccb6e026ae170",
    ),
    "tcmoa_pyramid": Weights(
        "tcmoa_pyramid.safetensors",
        "trained here: experiments/tcmoa_pyramid",
        sha256="e47ba3ad185242b26803fcdc75febab53bb753691bf7492d28454041dc325ddc",
    ),
    "toar_base": Weights(
        "toar_base.safetensors",
        "stage one of T-OAR, trained here: experiments/toar",
        sha256="8df03d5ebc527308ad9b0d58ba214d762c5d55acc6c8f3070ddee3f23cc827ca",
    ),
    "moe_fusion_small": Weights(
        "moe_fusion_small.safetensors",
        "MoE-Fusion by boxes of real pairs, trained here: experiments/moe_fusion",
        sha256="cc7f271861fcfddb325d6fd8b03b5fc7e4abcd2e897963a4c8bbd2e575417483",
    ),
    "toar_tailored": Weights(
        "toar_tailored.safetensors",
        "both stages of T-OAR, trained here: experiments/toar",
        sha256="15522c36a0f993cb2e9d5fb970c1308260c44da951a78cfd0b423b32f410cd7c",
    ),
    "mae_base": Weights("mae_visualize_vit_base.pth", _MAE_SOURCE, _MAE_URL + "mae_visualize_vit_base.pth"),
    "mae_large": Weights(
        "mae_visualize_vit_large_ganloss.pth",
        _MAE_SOURCE + ", with GAN loss",
        _MAE_URL + "mae_visualize_vit_large_ganloss.pth",
    ),
    "gifnet": Weights(
        "Final.model",
        "released GIFNet checkpoint",
        page="https://github.com/AWCXV/GIFNet (model/)",
        sha256="bfc1dfef0d5b386b0c04f172daf8f6af52ba395f26dc3dd5757425fd32eb1038",
    ),
    "tcmoa_base": Weights("tcmoa_base.pth", "released TC-MoA checkpoint", page="https://github.com/YangSun22/TC-MoA"),
    "tcmoa_large": Weights("tcmoa_large.pth", "released TC-MoA checkpoint", page="https://github.com/YangSun22/TC-MoA"),
}


SHIPPED_NAMES = tuple(name for name, entry in REGISTRY.items() if (SHIPPED / entry.filename).is_file())
"""Names of the weights that come with the package."""


def cache_dir() -> Path:
    """Folder for downloaded weights: `$FUSION_WEIGHTS`, or `fusion` in torch.hub's folder."""
    return Path(os.environ.get("FUSION_WEIGHTS") or Path(torch.hub.get_dir()) / "fusion")


def locate(name: str | Path) -> Path:
    """Path of weights given by name or by path; downloads them where a direct address is known.

    Raises:
        WeightsError: neither a known name nor a file, or unavailable; the message names the file and where to put it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    entry = REGISTRY.get(str(name))
    if entry is None:
        raise WeightsError(f"weights '{name}': neither a file nor one of {', '.join(REGISTRY)}")
    for folder in (SHIPPED, cache_dir()):
        if (folder / entry.filename).is_file():
            verify(folder / entry.filename, str(name), entry)
            return folder / entry.filename
    target = cache_dir() / entry.filename
    origin = entry.url or entry.page or entry.source
    by_hand = f"put {entry.filename} from {origin} into {target.parent}, or give a path instead of '{name}'"
    if entry.url is None:
        raise WeightsError(f"weights '{name}' cannot be downloaded by themselves: {by_hand}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:  # writes to a temporary name and renames
        download_url_to_file(entry.url, str(target), hash_prefix=entry.sha256)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise WeightsError(f"weights '{name}' could not be downloaded ({error}): {by_hand}") from error
    verify(target, str(name), entry)
    return target


def verify(path: Path, name: str, entry: Weights) -> str:
    """Check the SHA-256 of a file: the known one, else the one that the file had when it was first used.

    What was found stands beside the file in `<file>.sha256`, with its size and time, so that it is not read again while
    nothing changes.

    Args:
        path: the file.
        name: of the weights, for messages.
        entry: of the registry.

    Returns:
        The digest.

    Raises:
        WeightsError: it is another file.
    """
    note, status = path.with_name(f"{path.name}.sha256"), path.stat()
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    with contextlib.suppress(OSError, ValueError):
        digest, _, seen = note.read_text(encoding="ascii").strip().partition(" ")
        if seen == stamp and digest == (entry.sha256 or digest):
            return digest
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    expected = entry.sha256
    if expected is None and note.is_file():
        expected = note.read_text(encoding="ascii", errors="replace").partition(" ")[0]
    if expected is not None and found != expected:
        known = "the published file" if entry.sha256 else "when it was first used"
        raise WeightsError(
            f"weights '{name}': {path} has sha256 {found[:16]}..., {known} {expected[:16]}...: damaged, or another file; "
            f"remove it{'' if entry.sha256 else f' (and {note.name}, if you replaced it)'}, or give its path in place of the name"
        )
    if path.parent != SHIPPED:
        with contextlib.suppress(OSError):  # a folder that cannot be written: read again next time
            write_text(note, f"{found} {stamp}\n")
    return found


def read_state(path: Path) -> dict[str, Tensor]:
    """State dict of a `.safetensors`, `.pth` or Lightning `.ckpt` file; pickles are opened with `weights_only=True`.

    Raises:
        WeightsError: damaged, not a checkpoint, or holding more than plain containers and tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if is_bomb(path):
            raise WeightsError(f"{path}: refused, it grows when it is unpacked")
        with torch.serialization.safe_globals([argparse.Namespace]):  # the official checkpoints hold their arguments
            content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, MemoryError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({_reason(error)})") from error
    except Exception as error:  # pickle.UnpicklingError: something else than weights
        raise WeightsError(f"{path}: refused, it holds more than weights ({_reason(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: no state dict in it")
    return dict(content)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor], may_miss: Iterable[str] = ()) -> str:
    """How the keys and shapes of weights differ from those of a network, the first three of each kind; "" if they agree.

    Args:
        own: state dict of the network.
        state: the weights.
        may_miss: keys of the network that the weights need not have.
    """
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    kinds = {
        "missing": sorted(own.keys() - state.keys() - set(may_miss)),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": shapes,
    }
    return "; ".join(
        f"{kind} {_listed(kind, keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for kind, keys in kinds.items()
        if keys
    )


def _listed(kind: str, keys: list[str]) -> str:
    return ", ".join(keys) if kind == "of another shape" else str(keys)


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    origin: str,
    may_miss: Iterable[str] = (),
    ignore: Iterable[str] = (),
    what: str | None = None,
) -> None:
    """Load weights and account for every key.

    Args:
        module: gets the weights.
        state: the weights.
        origin: name or path, for messages.
        may_miss: keys of the module that the file need not have.
        ignore: keys of the file that have no use here.
        what: name of the network for messages; None takes the class of the module.

    Raises:
        WeightsError: missing, unexpected or mis-shaped keys; the first of each kind are named.
    """
    state = {key: value for key, value in state.items() if key not in set(ignore)}
    if problems := differences(module.state_dict(), state, may_miss):
        raise WeightsError(f"weights '{origin}' do not fit {what or type(module).__name__}: {problems}")
    module.load_state_dict(state, strict=False)


def load_backbone(backbone: nn.Module) -> None:
    """Load what `backbone.weights` names into an MAE backbone; None leaves it random.

    Position tables are constants and may be missing; the mask token and other parts of a pretraining run are left aside.
    """
    weights: Any = backbone.weights
    if weights is None:
        return
    state = read_state(locate(weights))
    prefix = "network.backbone."
    if any(key.startswith(prefix) for key in state):  # a checkpoint of our own pretraining
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    tables = ("pos_embed", "decoder_pos_embed")
    load_strict(backbone, state, weights, may_miss=tables, ignore=("mask_token", "network.mask_token"))


def save_weights(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> str:
    """Write a state dict as safetensors, whole or not at all, and return its SHA-256."""
    content = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with atomic(path) as temporary:
        save_file(content, temporary, dict(metadata or {}))
        return hashlib.sha256(temporary.read_bytes()).hexdigest()
