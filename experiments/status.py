"""Writes STATUS.md: every table and figure of the four papers, its command, what was published and what was measured here.

python experiments/status.py            # writes the file
python experiments/status.py --check    # exit status 1 if it is not up to date
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MADE = ("hardware", "commit", "date", "command")
LABELS = ("method", "dataset", "setting", "task", "name", "model", "group", "part", "pairs", *MADE)
SHOWN = 6


def main(arguments: Sequence[str]) -> int:
    """Write the file, or compare it with what would be written."""
    text, path = status(HERE), HERE / "STATUS.md"
    if "--check" in arguments:
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        print("STATUS.md is up to date" if same else "STATUS.md is out of date: python experiments/status.py")
        return 0 if same else 1
    path.write_text(text, encoding="utf-8")
    print(path)
    return 0


def status(folder: Path) -> str:
    """The ledger as Markdown.

    Args:
        folder: with `ledger.yaml` and the tables it names.
    """
    entries = yaml.safe_load((folder / "ledger.yaml").read_text(encoding="utf-8"))["entries"]
    done = sum(bool(rows(folder, entry)) for entry in entries)
    lines = [
        "# Status",
        "",
        f"{len(entries)} tables, figures and small runs of ours; {done} of them have numbers measured here. Made by",
        "`python experiments/status.py` from `ledger.yaml` and the CSV files that the commands write (`record=FILE`):",
        "do not edit.",
        "RUN, SWEEP_FOLDER, DIR, OUT and the like stand for folders; `paths.data_dir` or `FUSION_DATA` says where the data are.",
    ]
    for paper in dict.fromkeys(entry["paper"] for entry in entries):
        lines += [
            "",
            f"## {paper}",
            "",
            "| item | commands | published | measured here | missing |",
            "|---|---|---|---|---|",
        ]
        lines += [_line(folder, entry) for entry in entries if entry["paper"] == paper]
    return "\n".join(lines) + "\n"


def rows(folder: Path, entry: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was measured for an entry; empty if nothing was."""
    path = folder / entry["measured"] if entry.get("measured") else None
    if path is None or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _line(folder: Path, entry: Mapping[str, Any]) -> str:
    commands = "<br>".join(f"`{command}`".replace("|", "\\|") for command in entry["commands"])
    published = f"[{Path(entry['published']).name}]({entry['published']})" if entry.get("published") else "-"
    missing = entry.get("missing") or "-"
    return f"| {entry['title']} | {commands} | {published} | {_measured(folder, entry)} | {missing} |"


def _measured(folder: Path, entry: Mapping[str, Any]) -> str:
    found = rows(folder, entry)
    if not found:
        return "not run"
    last = found[-1]
    made = ", ".join(last[key] for key in MADE[:3] if last.get(key))
    values = [key for key in last if key not in LABELS and last[key]]
    methods = list(dict.fromkeys(row.get("method") or row.get("setting") or row.get("dataset") or "" for row in found))
    what = f"{len(found)} rows of {', '.join(name for name in methods[:SHOWN] if name)}: {', '.join(values[:8])}"
    return f"[{Path(entry['measured']).name}]({entry['measured']}), {what}" + (f" ({made})" if made else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
