"""Dominant intensity bias: how strongly the stronger source of a token dominates (TC-MoA supplement, Fig. 13)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.analysis.figures import grid, legend, save
from fusion.analysis.scenes import Study, no_such_thing
from fusion.files import markdown, write_csv, write_text

FIELDS = ("a_dominant_a", "a_dominant_b", "b_dominant_a", "b_dominant_b", "average", "difference")
PUBLISHED: dict[str, tuple[float, ...]] = {  # Fig. 13, in the order of FIELDS
    "mef": (0.7961, 0.2042, 0.1667, 0.8336, 0.8148, 0.0375),
    "vif": (0.7467, 0.2535, 0.1607, 0.8396, 0.7932, 0.0929),
    "mff": (0.9095, 0.0908, 0.0568, 0.9431, 0.9263, 0.0336),
}
"""The paper's values: mean prompts of a and b where a dominates, where b does, and the two numbers made of them."""
ALL = "all"


@dataclass
class Dominance:
    """Sums over tokens, from which the biases follow; `+` joins those of more tokens.

    Attributes:
        tokens: `(2,)` how many tokens a dominates, how many b does; where both prompts are equal neither does.
        sums: `(2, 2)` sums of the prompts: row 0 where a dominates, row 1 where b does; column 0 of a, 1 of b.
        total: tokens in all.
    """

    tokens: Tensor
    sums: Tensor
    total: int

    @classmethod
    def of(cls, prompts: Tensor) -> "Dominance":
        """Read `(B, 2, h, w)` prompts, channel 0 of source a."""
        pairs = prompts.detach().double().transpose(0, 1).flatten(1).cpu()
        dominates = torch.stack([pairs[0] > pairs[1], pairs[1] > pairs[0]]).double()
        return cls(dominates.sum(1), dominates @ pairs.t(), pairs.shape[1])

    def __add__(self, other: "Dominance") -> "Dominance":
        return Dominance(self.tokens + other.tokens, self.sums + other.sums, self.total + other.total)

    def values(self) -> dict[str, float]:
        """The numbers of Fig. 13 by `FIELDS`; not-a-number where a source never dominates."""
        (aa, ab), (ba, bb) = (self.sums / self.tokens[:, None]).tolist()
        return dict(zip(FIELDS, (aa, ab, ba, bb, (aa + bb) / 2, abs(aa - bb)), strict=True))


def bias(study: Study) -> list[Path]:
    """Intensity bias per task, over all sites and per site: `bias.csv`, `bias.md` (with the paper's) and `bias.png`.

    Raises:
        ConfigError: the model makes no prompts.
    """
    found: dict[tuple[str, str], Dominance] = {}
    for scene, output in study.observe():
        if not output.prompts:
            raise no_such_thing("bias", "prompts", study.model)
        for site, prompts in zip(output.sites, output.prompts, strict=True):
            seen = Dominance.of(prompts)
            for key in ((scene.task, ALL), (scene.task, site)):
                found[key] = found[key] + seen if key in found else seen
    rows = [_row("measured", task, site, dominance) for (task, site), dominance in found.items()]
    tasks = list(dict.fromkeys(task for task, _ in found))
    paper = [
        {"source": "paper", "task": task, "site": ALL, "tokens": None, "a_dominant_share": None}
        | dict(zip(FIELDS, PUBLISHED[task], strict=True))
        for task in tasks
        if task in PUBLISHED
    ]
    rows = [row for task in tasks for row in (*rows, *paper) if row["task"] == task]
    rows.sort(key=lambda row: (tasks.index(row["task"]), row["site"] != ALL))  # stable: sites stay in the model's order
    text = write_text(study.folder / "bias.md", table(rows))
    print(text.read_text(encoding="utf-8"), end="")
    return [write_csv(study.folder / "bias.csv", rows), text, _figure(rows, tasks, study.folder / "bias.png")]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows over all sites as Markdown, the paper's beside the measured ones."""
    header = ["task", "", "tokens", "a dominant", "p_a | a dom.", "p_b | a dom.", "p_a | b dom.", "p_b | b dom."]
    header = [title.replace(" | ", ", ") for title in header] + ["average dominant bias", "difference"]
    keys = ("task", "source", "tokens", "a_dominant_share", *FIELDS)
    return markdown(header, [[row[key] for key in keys] for row in rows if row["site"] == ALL])


def _row(source: str, task: str, site: str, dominance: Dominance) -> dict[str, Any]:
    share = float(dominance.tokens[0]) / dominance.total
    row: dict[str, Any] = {"source": source, "task": task, "site": site, "tokens": dominance.total}
    return row | {"a_dominant_share": share} | dominance.values()


def _figure(rows: list[dict[str, Any]], tasks: list[str], path: Path) -> Path:
    figure, axes = grid(1, len(tasks), (2.6, 2.8), sharey=True)
    bars = FIELDS[:4]
    labels = ["a where\na dominates", "b where\na dominates", "a where\nb dominates", "b where\nb dominates"]
    for ax, task in zip(axes[0], tasks, strict=True):
        for row in (row for row in rows if row["task"] == task and row["site"] == ALL):
            values = [row[name] for name in bars]
            if row["source"] == "measured":
                colors = ["tab:blue", "tab:orange"] * 2
                ax.bar(range(4), values, 0.7, color=colors, label="measured")
            else:
                ax.plot(range(4), values, "kD", markersize=5, fillstyle="none", label="paper")
        ax.set_title(task, fontsize=10)
        ax.set_ylim(0, 1)
        ax.set_xticks(range(4), labels, fontsize=7, rotation=45, ha="right")
    axes[0, 0].set_ylabel("mean prompt", fontsize=9)
    legend(figure, *axes[0, -1].get_legend_handles_labels())
    return save(figure, path)
