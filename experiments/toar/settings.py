"""One table of a setting of T-OAR from the three evaluations that make it up, beside the published numbers.

    python experiments/toar/settings.py --detection RUN --segmentation RUN --saliency RUN --published table1_setting1

Each RUN is a folder of `python -m fusion.evaluate downstream=...`; leave out what was not run. Writes Markdown to the screen.
"""

import argparse
import csv
from pathlib import Path

from fusion.files import markdown

COLUMNS = (  # table of a run, its column, heading and key of the published table, factor
    ("detection", "mAP50-95", "OD mAP50-95", "od_map", 0.01),  # its tables are in percent
    ("segmentation", "mIoU", "SS mIoU", "ss_miou", 100),
    ("saliency", "mean_f", "SOD mF", "sod_mf", 1),
    ("saliency", "mae", "SOD MAE", "sod_mae", 1),
    ("saliency", "mean_e", "SOD Em", "sod_em", 1),
)


def read(path: Path, key: str) -> dict[str, dict[str, str]]:
    """Rows of a table by the value of one of its columns."""
    with path.open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def main() -> None:
    """Read the runs, join them by method, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for task in ("detection", "segmentation", "saliency"):
        parser.add_argument(f"--{task}", type=Path, help=f"run folder with {task}.csv")
    parser.add_argument("--published", help="table in experiments/toar/published, without its ending")
    arguments = parser.parse_args()
    runs = {
        task: read(getattr(arguments, task) / f"{task}.csv", "method")
        for task in ("detection", "segmentation", "saliency")
        if getattr(arguments, task) is not None
    }
    rows = []
    for method in dict.fromkeys(method for run in runs.values() for method in run):
        values = []
        for task, column, _, _, factor in COLUMNS:
            text = runs.get(task, {}).get(method, {}).get(column)
            values.append(factor * float(text) if text else None)
        rows.append([method, "measured", *values])
    if arguments.published:
        folder = Path(__file__).parent / "published"
        for method, row in read(folder / f"{arguments.published}.csv", "method").items():
            rows.append([method, "published", *(float(row[key]) for *_, key, _ in COLUMNS)])
    print(markdown(["method", "", *(heading for _, _, heading, _, _ in COLUMNS)], rows), end="")


if __name__ == "__main__":
    main()
