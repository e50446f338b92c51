"""Released TC-MoA checkpoints, both generations of their key names, as weights of `TCMoANetwork`."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.hub import differences
from fusion.models.tcmoa.network import TCMoANetwork

_OLD_NAMES = (
    ("blocks_SSF_rgb", "blocks_MoA"),
    ("SE_en_linear", "dimReduction"),
    ("SSF_beta", "modal_shifts"),
    ("en_projAdapter", "FusionLayer"),
    ("de_projAdapter", "de_FusionLayer"),
)
_IGNORED = re.compile(r"relative_position_index$|\.MoA\.(mean|std)$|^mask_token$")
_ALPHAS = {"encoder": "Alpha_encoder", "decoder": "Alpha_decoder"}
_SITE = re.compile(r"^(decoder_)?blocks_MoA\.(\d+)\.(.+)$")
_FUSION = re.compile(r"^(de_)?FusionLayer\.(\d+)\.conv(\d)\.weight$")
_POSITION = re.compile(r"^(en|de)_relative_position\.(\d+)\.relative_position_bias_table$")


def convert_official(state: Mapping[str, Tensor], network: TCMoANetwork) -> dict[str, Tensor]:
    """Rename and stack the weights of a released checkpoint.

    Args:
        state: the checkpoint's `model` entry.
        network: the network it shall be loaded into; its sites and sizes decide the names.

    Returns:
        A state dict for `network.load_state_dict(..., strict=True)`. Where the checkpoint holds no source embeddings - the
        released code keeps them out of its state dict - theirs are zero, the mean of what it would draw at random.

    Raises:
        WeightsError: a key of the checkpoint has no place here, or one of the network's is missing.
    """
    blocks = {"encoder": list(network.encoder.sites), "decoder": list(network.decoder.sites)}
    new: dict[str, Tensor] = {}
    experts: dict[str, dict[tuple[str, int], Tensor]] = {}
    shifts: dict[str, dict[int, Tensor]] = {}
    unknown = []
    for raw_key, value in state.items():
        key = _current_name(raw_key)
        if _IGNORED.search(key):
            continue
        if match := _SITE.match(key):
            stage, index, rest = "decoder" if match[1] else "encoder", int(match[2]), match[3]
            if index >= len(blocks[stage]):
                unknown.append(raw_key)
                continue
            site = f"{stage}.sites.{blocks[stage][index]}"
            if expert := re.match(r"MoA\.experts\.(\d+)\.(fc\d\.(?:weight|bias))$", rest):
                experts.setdefault(site, {})[expert[2], int(expert[1])] = value
            elif rest.startswith("modal_shifts"):
                _collect_shifts(shifts.setdefault(site, {}), rest, value)
            else:
                new[f"{site}.{rest.replace('dimReduction', 'reduce').replace('MoA.', 'router.')}"] = value
        elif match := _FUSION.match(key):
            stage, index = "decoder" if match[1] else "encoder", int(match[2])
            new[f"{stage}.sites.{blocks[stage][index]}.fuse.{int(match[3]) - 1}.weight"] = value
        elif match := _POSITION.match(key):
            stage = "encoder" if match[1] == "en" else "decoder"
            new[f"{stage}.positions.{match[2]}.relative_position_bias_table"] = value
        elif key in _ALPHAS.values():
            stage = next(s for s, name in _ALPHAS.items() if name == key)
            new |= {f"{stage}.sites.{block}.alpha": alpha for block, alpha in zip(blocks[stage], value, strict=True)}
        else:
            new[f"backbone.{key}"] = value
    for site, parts in experts.items():
        new |= {f"{site}.experts.{name}": stacked for name, stacked in _stack_experts(parts).items()}
    wanted = network.state_dict()
    for key in wanted:
        if key.endswith("source_embedding"):
            rows = shifts.get(key.removesuffix(".source_embedding"))
            new[key] = _stack(rows).view(wanted[key].shape) if rows else torch.zeros_like(wanted[key])
    if problems := differences(wanted, new | dict.fromkeys(unknown, torch.empty(0))):
        raise WeightsError(
            f"this is no TC-MoA checkpoint for this configuration: {problems}; check model.backbone, model.tau and "
            "model.num_experts"
        )
    return new


def _current_name(key: str) -> str:
    key = key.removeprefix("module.")
    if "blocks_SSF" in key:
        key = key.replace("mlp", "MoA")
    for old, current in _OLD_NAMES:
        key = key.replace(old, current)
    return key


def _collect_shifts(rows: dict[int, Tensor], name: str, value: Tensor) -> None:
    """Rows 2k and 2k+1 are the embeddings of task k's sources; they come one by one or as one tensor."""
    index = re.search(r"\.(\d+)$", name)
    if index:
        rows[int(index[1])] = value.flatten()
    else:
        rows |= dict(enumerate(value.flatten(0, -2)))


def _stack(rows: Mapping[int, Tensor]) -> Tensor:
    return torch.stack([rows[i] for i in sorted(rows)])


def _stack_experts(parts: Mapping[tuple[str, int], Tensor]) -> dict[str, Tensor]:
    stacked = {}
    for layer in ("1", "2"):
        for kind, short in (("weight", "w"), ("bias", "b")):
            rows = {i: value for (name, i), value in parts.items() if name == f"fc{layer}.{kind}"}
            stacked[short + layer] = _stack({i: v.t() if kind == "weight" else v for i, v in rows.items()})
    return stacked
