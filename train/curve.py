"""The curve of a run: one line of curve.csv for every so many steps, each step once."""

import csv
from pathlib import Path

CURVE_NAME = "curve.csv"
HEADER = ("step", "loss", "recall", "lr", "hours")


def append_to_curve(
    folder: Path, step: int, loss: float, recall: float, lr: float, hours: float
) -> None:
    """Add a line, under a header where there is no curve yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CURVE_NAME).open("a", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(HEADER)
        writer.writerow([step, f"{loss:.4f}", f"{recall:.4f}", f"{lr:.3e}", f"{hours:.4f}"])


def cut_curve(folder: Path, step: int) -> None:
    """Drop the lines after `step`: a run that goes on from there writes them again."""
    path = folder / CURVE_NAME
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if int(row[0]) <= step]
    beside = folder / f"{CURVE_NAME}.tmp"
    with beside.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
    beside.replace(path)
