"""Tang's TNO spreadsheet as the table that `experiments/metrics/published_rank.py` reads.

    python experiments/tcmoa_pyramid/tno_sheet.py Metric_TNO.xlsx tno.csv

One sheet per metric, the second row holds the methods, the pictures 01 to 42 follow.
"""

import argparse
import csv
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
METRICS = ("EN", "SF", "SD", "PSNR", "MSE", "MI", "VIF", "AG", "CC", "SCD", "Qabf")  # as in conf/metrics/tno.yaml


def sheets(path: Path) -> dict[str, list[dict[str, str]]]:
    """Cells by column letter, row by row, of every sheet."""
    with zipfile.ZipFile(path) as book:
        texts = [
            "".join(part.text or "" for part in item.iter(f"{MAIN}t")) for item in _parse(book, "sharedStrings.xml")
        ]
        files = {link.get("Id"): link.get("Target") for link in _parse(book, "_rels/workbook.xml.rels")}
        found = {}
        for sheet in _parse(book, "workbook.xml").iter(f"{MAIN}sheet"):
            rows = []
            for row in _parse(book, str(files[sheet.get(LINK)])).iter(f"{MAIN}row"):
                cells = {}
                for cell in row:
                    value = cell.findtext(f"{MAIN}v")
                    if value is not None:
                        column = re.sub(r"\d", "", str(cell.get("r")))
                        cells[column] = texts[int(value)] if cell.get("t") == "s" else value
                rows.append(cells)
            found[str(sheet.get("name"))] = rows
    return found


def _parse(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(book.read(f"xl/{name}"))


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheet", type=Path)
    parser.add_argument("table", type=Path)
    arguments = parser.parse_args()
    tables = sheets(arguments.sheet)
    methods = tables[METRICS[0]][1]
    with arguments.table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "method", *METRICS])
        for index in range(len(tables[METRICS[0]]) - 2):
            for column, method in methods.items():
                writer.writerow(
                    [f"{index + 1:02d}", method, *(tables[metric][2 + index][column] for metric in METRICS)]
                )


if __name__ == "__main__":
    main()
