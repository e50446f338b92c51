"""The released GIFNet checkpoint as weights of `GIFNetNetwork`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.models.gifnet.network import GIFNetNetwork

_BRANCH = "extractor_multask.SwinTransformerSpecific"
_SUFFIX = {"mm": "", "dp": "_mfif"}
_GATES = {"mm": "weights", "dp": "weights_mfif"}
_UNUSED = {f"{_BRANCH}.layer1.{name}.1" for name in _GATES.values()}
"""Gates after the second block, which the released code never reads."""


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of the released code."""
    return any(key.startswith(("getSharedFeatures.", _BRANCH)) for key in state)


def convert_official(state: Mapping[str, Tensor], network: GIFNetNetwork) -> dict[str, Tensor]:
    """Rename the weights of a released checkpoint.

    Args:
        state: the checkpoint.
        network: the network it shall be loaded into.

    Returns:
        A state dict for `network.load_state_dict(..., strict=True)`.

    Raises:
        WeightsError: a key is missing, unknown or of another shape; the line names the first ones.
    """
    names = _names(network)
    used = {theirs for sources in names.values() for theirs in sources}
    constants = {f"{_BRANCH}.layer1.blocks.{i}.attn.attn.relative_positions" for i in range(network.depth)}
    missing = sorted(used - state.keys())
    unknown = sorted(state.keys() - used - constants - _UNUSED)
    if missing or unknown:
        problems = [
            f"{what} {', '.join(keys[:3])} ({len(keys)} in all)"
            for what, keys in (("missing", missing), ("unknown", unknown))
            if keys
        ]
        raise WeightsError(f"not the released GIFNet checkpoint: {'; '.join(problems)}")
    own = network.state_dict()
    converted: dict[str, Tensor] = {}
    for key, sources in names.items():
        value = torch.cat([state[theirs] for theirs in sources]) if len(sources) > 1 else state[sources[0]]
        if value.numel() != own[key].numel():
            raise WeightsError(
                f"the released GIFNet checkpoint has {sources[0]} of shape {tuple(value.shape)}, this network "
                f"{tuple(own[key].shape)}: keep model.network and model.gate as released to load it"
            )
        converted[key] = value.reshape(own[key].shape)
    return converted


def _names(network: GIFNetNetwork) -> dict[str, list[str]]:
    """Our key to the released ones; several are stacked along the first axis."""
    names: dict[str, list[str]] = {}

    def add(ours: str, *theirs: str, bias: bool = True) -> None:
        for kind in ("weight", "bias") if bias else ("weight",):
            names[f"{ours}.{kind}"] = [f"{name}.{kind}" for name in theirs]

    for index in range(3):
        add(f"encoder.convs.{index}", f"getSharedFeatures.conv_{index + 1}.conv2d")
    for index in range(4):
        add(f"reconstruction.{2 * index}", f"decoder_rec.decoder.{3 * index + 1}")
        add(f"decoder.{2 * index}", f"cnnDecoder.decoder.{3 * index + 1}")
    for index in (0, 2):
        add(f"merge.{index}", f"cnnDecoder.fuseComplementFeatures.mlp.{index}", bias=False)
    add("unembed", f"{_BRANCH}.patch_unembed.proj.0")
    for index in range(network.depth):
        block = f"{_BRANCH}.layer1.blocks.{index}"
        for layer in (0, 2):
            add(f"positions.{index}.mlp.{layer}", f"{block}.attn.attn.meta.{layer}")
        for branch, suffix in _SUFFIX.items():
            ours = f"branches.{branch}.blocks.{index}"
            add(f"{ours}.norm", f"{block}.norm1{suffix}")
            for kind in ("weight", "bias"):
                names[f"{ours}.norm.rescale_{kind}"] = [f"{block}.norm1{suffix}.meta1.{kind}"]
                names[f"{ours}.norm.rebias_{kind}"] = [f"{block}.norm1{suffix}.meta2.{kind}"]
            add(f"{ours}.qkv", f"{block}.attn.QK{suffix}", f"{block}.attn.V{suffix}")
            add(f"{ours}.conv", f"{block}.attn.conv{suffix}")
            add(f"{ours}.proj", f"{block}.attn.proj{suffix}")
            for layer in (0, 2):
                add(f"{ours}.mlp.{layer}", f"{block}.mlp{suffix}.mlp.{layer}")
    for branch, gate in _GATES.items():
        kind = {"mm": "ivif", "dp": "mfif"}[branch]
        add(f"branches.{branch}.embed", f"{_BRANCH}.patch_embed_{kind}.proj")
        names[f"branches.{branch}.gate.value"] = [f"{_BRANCH}.layer1.{gate}.0"]
    return names
