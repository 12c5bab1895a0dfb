"""What the demo has shown: its numbers as a table, as JSON, and as an exit code."""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from ..runtime.score import Score

FIXES, PICTURE = "fixes.jsonl", "track.png"  # in the demo's folder
ENOUGH_PERCENT = 50.0  # of the fixes within 25 m; less and something is broken

SCORE_ROWS = (
    ("within 10 m", "within_10_m_percent", "%"),
    ("within 25 m", "within_25_m_percent", "%"),
    ("within 50 m", "within_50_m_percent", "%"),
    ("median error", "median_m", "m"),
    ("95 % of errors below", "p95_m", "m"),
    ("in the 95 % ellipse", "coverage_95_percent", "%"),
)


class Summary(msgspec.Struct, frozen=True):
    """What the demo has shown."""

    frames: int
    fixes: int
    received: int  # by the process that listened
    statuses: dict[str, int]
    drone: Score
    center: Score
    median_latency_ms: float | None  # frame to fix
    p95_latency_ms: float | None
    tiles: int
    tiles_per_s: float  # while the pack was built
    total_s: float
    out: str


def fault_of(summary: Summary) -> str | None:
    """What a demo that works does not show, in a sentence."""
    if summary.received < summary.frames:
        return f"only {summary.received} of {summary.frames} messages reached the other process"
    if summary.fixes == 0:
        return "no position was found"
    near = (summary.drone.within_25_m_percent or 0.0) * summary.frames / summary.fixes
    if near < ENOUGH_PERCENT:
        return f"only {near:.0f} % of the {summary.fixes} fixes lie within 25 m of the truth"
    return None


def print_report(summary: Summary) -> None:
    """Two tables, and where the files are."""
    console = Console()
    for table in (_flight_table(summary), _score_table(summary)):
        console.print(table)
    folder = Path(summary.out)
    print(f"{folder / PICTURE}  map, true track, fixes and their ellipses")
    print(f"{folder / FIXES}  one line of JSON a frame, as `skyfix replay` writes them")


def _flight_table(summary: Summary) -> Table:
    """What was done, and how fast."""
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(summary.statuses.items()))
    times_ms = summary.median_latency_ms, summary.p95_latency_ms
    median, p95 = ("-" if time_ms is None else f"{time_ms:.1f} ms" for time_ms in times_ms)
    table = Table(show_header=False, box=None)
    table.add_row("camera frames", str(summary.frames))
    table.add_row("fixes", f"{summary.fixes} ({statuses})")
    table.add_row("received in another process", str(summary.received))
    table.add_row("frame to fix", f"{median} median, {p95} for 95 %")
    table.add_row("map", f"{summary.tiles} tiles, {summary.tiles_per_s:.0f} a second")
    table.add_row("all in all", f"{summary.total_s:.1f} s")
    return table


def _score_table(summary: Summary) -> Table:
    """Errors of both kinds of points."""
    table = Table("", box=None)
    for title in ("drone", "image centre"):
        table.add_column(title, justify="right")
    for label, name, unit in SCORE_ROWS:
        cells = [getattr(score, name) for score in (summary.drone, summary.center)]
        table.add_row(label, *("-" if cell is None else f"{cell:.1f} {unit}" for cell in cells))
    return table
