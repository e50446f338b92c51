"""Parameters of a model by what they are for, beside the numbers that papers give."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

GROUPS: dict[str, str] = {
    "backbone": r"^network\.backbone\.",
    "positions": r"^network\.(encoder|decoder)\.positions\.",
    "prompt generation": r"\.sites\.\d+\.(norm1|reduce|norm2|router|experts)\.",
    "fusion convolutions": r"\.sites\.\d+\.fuse\.",
    "mixing weights": r"\.sites\.\d+\.alpha$",
    "source embeddings": r"\.sites\.\d+\.source_embedding$",
    "branches beside MLPs": r"^network\.(encoder|decoder)\.branches\.",
}
"""Groups of TC-MoA's Table 8 and what that table leaves out, as patterns of parameter names. The parameters of other
models are grouped by module."""

PUBLISHED: dict[str, dict[str, float]] = {
    # Table 6: frozen and all as counted without the fixed position tables of the backbone.
    "base": {"all": 115.40e6, "frozen": 111.65e6, "trainable": 3.87e6},
    "large": {  # Table 8
        "all": 348.70e6,
        "frozen": 329.54e6,
        "trainable": 9.58e6,
        "positions": 0.19e6,
        "prompt generation": 2.15e6,
        "fusion convolutions": 7.24e6,
    },
}
"""Parameters of TC-MoA by backbone, as the paper prints them."""

FOOTNOTE = (
    "The paper's 9.58 M trainable parameters of the large model are positions 0.19 + prompt generation 2.15 + fusion "
    "7.24 (Table 8); the released code's prompt generation has 3.92 M, 11.35 M in all, while for the base model code "
    "and paper agree (3.87 M). The paper's total of 348.70 M adds the 9.58 M to the frozen 329.54 M twice. The source "
    "embeddings (Eq. 5) come on top: they are trained here, the released code never registers them."
)


@dataclass(frozen=True)
class Group:
    """Parameters of one kind.

    Attributes:
        name: group name.
        total: parameters.
        trainable: those that require gradients.
    """

    name: str
    total: int
    trainable: int


def count(model: nn.Module) -> list[Group]:
    """Parameters by group, in the order of the model; shared ones count once."""
    totals: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        entry = totals.setdefault(_group(name), [0, 0])
        entry[0] += parameter.numel()
        entry[1] += parameter.numel() * parameter.requires_grad
    known = [*(g for g in GROUPS if g in totals), *(g for g in totals if g not in GROUPS)]
    return [Group(name, *totals[name]) for name in known]


def published(config: Mapping[str, Any]) -> dict[str, float]:
    """The paper's numbers for a model configuration; empty where the paper has none.

    Args:
        config: node of conf/model.
    """
    if str(config.get("_target_", "")).rsplit(".", 1)[-1] != "TCMoA":
        return {}
    as_in_paper = config.get("num_experts") == 4 and config.get("top_k") == 2 and config.get("tau") == 4
    adapter = str((config.get("adapter") or {}).get("_target_", "")).rsplit(".", 1)[-1]
    backbone = config.get("backbone") or {}
    sizes: dict[Any, str] = {(768, 12): "base", (1024, 24): "large"}
    size = sizes.get((backbone.get("embed_dim"), backbone.get("depth")))
    return PUBLISHED[size] if size and as_in_paper and adapter == "MixtureOfAdapters" else {}


def _group(name: str) -> str:
    for group, pattern in GROUPS.items():
        if re.search(pattern, name):
            return group
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] == "network" and len(parts) > 2 else 1])
