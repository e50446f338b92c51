"""Distribution of each metric over the images, method by method."""

from pathlib import Path

from fusion.files import atomic
from fusion.scoring.leaderboard import Leaderboard, Values


def distributions(board: Leaderboard, values: Values, path: Path) -> None:
    """Draws one panel per column: a violin with its box for each method, over the common images.

    Args:
        board: the comparison.
        values: what it was made of.
        path: PNG, PDF or SVG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, needed here only
    from matplotlib.figure import Figure

    columns = board.suite.columns
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    width = max(2.6, 0.55 * len(board.methods) + 1)
    figure = Figure(figsize=(across * width, down * 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for i, column in enumerate(columns):
        axes = figure.add_subplot(down, across, i + 1)
        key = str(column.key)
        data = [
            [v for v in (values[m][image][key] for image in board.images) if abs(v) != float("inf")]
            for m in board.methods
        ]
        drawn = [(position, samples) for position, samples in enumerate(data, 1) if samples]
        spread = [(position, samples) for position, samples in drawn if max(samples) > min(samples)]
        if spread:
            axes.violinplot([s for _, s in spread], [p for p, _ in spread], showextrema=False, widths=0.8)
        if drawn:
            axes.boxplot([s for _, s in drawn], positions=[p for p, _ in drawn], widths=0.25, sym=".")
        axes.set_xticks(range(1, len(board.methods) + 1), board.methods, rotation=45, ha="right", fontsize=8)
        axes.set_title(column.heading, fontsize=9)
        axes.tick_params(axis="y", labelsize=8)
    figure.suptitle(f"suite {board.suite.name}, {len(board.images)} images", fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix.removeprefix(".").lower() or "png")
