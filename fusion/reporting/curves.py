"""Curves of one or several runs over the steps of training."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusion.analysis.figures import grid

Curve = Sequence[tuple[int, float]]
MAX_PANELS = 12
COLUMNS = 3


def panels(names: Sequence[str]) -> dict[str, list[str]]:
    """Logged names by what goes into one panel: one metric or one loss term of all tasks together.

    `val/vif/qabf`, `val/mef/qabf` and `val/qabf` share the panel `val/qabf`; routing is shown by its means over the sites.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        if name.startswith("lr-"):
            found.setdefault("learning rate", []).append(name)
        elif parts[0] == "routing" and len(parts) == 3:
            found.setdefault(f"routing/{parts[-1]}", []).append(name)
        elif parts[0] in ("val", "train", "gate", "norm") or len(parts) == 1:
            found.setdefault(f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else name, []).append(name)
    return {
        name: members for name, members in sorted(found.items(), key=lambda item: _rank(item[0])) if name != "epoch"
    }


def draw_curves(runs: Mapping[str, Mapping[str, Curve]], most: int = MAX_PANELS) -> Any | None:
    """A figure with a panel per metric and a line per task, or per run where there are several; None without curves.

    Args:
        runs: logged values by name, by run.
        most: panels at most.
    """
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    chosen = dict(list(panels(names).items())[:most])
    if not chosen:
        return None
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = grid(rows, columns, (4.0, 2.7))
    for ax in axes.flat[len(chosen) :]:
        ax.set_axis_off()
    for ax, (title, members) in zip(axes.flat, chosen.items(), strict=False):
        several = len(runs) > 1
        if several and title in members:
            members = [title]  # the mean over the tasks, one line per run
        for index, (run, curves) in enumerate(runs.items()):
            for member in members:
                points = curves.get(member, ())
                if not points:
                    continue
                label = " ".join(part for part in (run if several else "", _line(member, title)) if part)
                dashes = ("-", "--", ":", "-.")[members.index(member) % 4]
                style = {"color": f"C{index % 10}", "linestyle": dashes} if several else {}
                marker = "o" if len(points) < 12 else None
                ax.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    label=label or None,
                    marker=marker,
                    markersize=3,
                    linewidth=1.3,
                    **style,
                )
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.yaxis.get_major_formatter().set_useOffset(False)
        ax.grid(alpha=0.3)
        handles, _ = ax.get_legend_handles_labels()
        if 0 < len(handles) <= 8:
            ax.legend(fontsize=7, frameon=False)
    return figure


def _line(name: str, title: str) -> str:
    if name.startswith("lr-"):
        return name.removeprefix("lr-")
    middle = name.split("/")[1:-1]
    return "/".join(middle) or ("all tasks" if name == title and title.startswith("val/") else "")


def _rank(title: str) -> tuple[int, int, str]:
    order = ("val", "train", "learning rate", "norm", "routing", "gate")
    first = title.split("/")[0]
    return (order.index(first) if first in order else len(order), 0 if title.endswith("/loss") else 1, title)
