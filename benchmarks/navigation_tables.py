"""The tables of navigation.py."""

from collections.abc import Sequence

from navigation_flights import FlightRow
from navigation_floors import floor_table
from navigation_noise import EXACT, NO_HEADING, UNKNOWN, WITHIN_20
from navigation_results import Results
from navigation_scores import Start
from navigation_still import OURS, StillRow, best_peers, speed
from navigation_wrong import WrongRow
from tables import ABSENT, TextTable, number

from skyfix.runtime.score import Score


def tables(results: Results) -> list[TextTable]:
    """Those that have rows."""
    made = (
        still_table(results.still), flight_table(results.flights), start_table(results.flights),
        wrong_table(results.wrong), cost_table(results), floor_table(results),
    )  # fmt: skip
    return [table for table in made if table.rows]


def still_table(rows: Sequence[StillRow]) -> TextTable:
    """Accuracy, honesty and time of every method; speed beside the most accurate peer."""
    header = (
        "every frame alone", "part", "method", "centres", "in 25 m %", "median m",
        "drone in 25 m %", "false", "68 % has", "95 % has", "median ms", "p95 ms", "peer / it",
    )  # fmt: skip
    best = best_peers(rows)
    lines = []
    for row in sorted(rows, key=lambda row: (row.land, _order(row.errors))):  # stable: seen first
        center, times = row.scores.center.all_frames, row.times
        peer = best.get((row.land, row.errors, row.part))
        lines.append((
            f"{row.land}, {row.errors}", row.part, row.method, number(center.frames),
            number(center.within_25_m_percent), number(center.median_m),
            number(row.scores.drone.all_frames.within_25_m_percent),
            *(_honesty(center) if row.method == OURS else (ABSENT,) * 3),
            _ms(times.median_ms, row.scaled_by), _ms(times.p95_ms, row.scaled_by),
            ABSENT if peer is None else number(speed(row, peer), 2),
        ))  # fmt: skip
    return TextTable("Every frame alone, no prior", header, lines)


def flight_table(rows: Sequence[FlightRow]) -> TextTable:
    """One line for each flight; errors are of the image's centre from the first fix on."""
    header = (
        "flight", "errors", "part", "first fix s", "at frame", "first error m", "frames",
        "in 25 m %", "drone in 25 m %", "median m", "median / step", "false", "68 % has",
        "95 % has",
    )  # fmt: skip
    lines = []
    for row in rows:
        later, start = row.result.later, row.result.start
        in_steps = None if later.median_m is None else later.median_m / row.step_m
        lines.append((
            row.flight, row.errors, row.part, number(start.seconds),
            ABSENT if start.seconds is None else number(start.frames), number(start.error_m),
            number(later.frames), number(later.within_25_m_percent),
            number(row.result.scores.drone.from_first_fix.within_25_m_percent),
            number(later.median_m), number(in_steps, 2), *_honesty(later),
        ))  # fmt: skip
    return TextTable("Flights with the filter, lost start", header, lines)


def start_table(rows: Sequence[FlightRow]) -> TextTable:
    """Lost starts along the simulated flights."""
    header = ("lost starts", "part", "searches", "found in 60 s %", "median s", "p95 s", "wrong")
    lines = []
    for row in rows:
        if row.found_percent is None:
            continue
        seconds = sorted(start.seconds for start in row.starts if start.seconds is not None)
        lines.append((
            row.flight, row.part, number(len(row.starts)), number(row.found_percent),
            number(_quantile(seconds, 0.5)), number(_quantile(seconds, 0.95)),
            number(_wrong(row.starts, row.found_percent)),
        ))  # fmt: skip
    return TextTable("Lost starts, one every 50 frames", header, lines)


def wrong_table(rows: Sequence[WrongRow]) -> TextTable:
    """Claims over grounds that the pack does not have, and what was said instead."""
    lines = [
        (
            f"{row.ground}, pack of {row.land}", row.part, number(row.claims.frames),
            number(row.claims.positions), number(row.claims.p95_ms),
            ", ".join(f"{name} {count}" for name, count in row.claims.reasons.items()),
        )
        for row in rows
    ]  # fmt: skip
    header = ("flights over", "part", "frames", "false fixes", "p95 ms", "reasons")
    return TextTable("Where there is no place", header, lines)


def cost_table(results: Results) -> TextTable:
    """Frame to fix of skyfix: followed, and searched for over the whole pack."""
    lines = [
        (
            f"{row.flight}, {row.errors}", row.part, number(row.result.tracking.frames),
            number(row.result.tracking.median_ms), number(row.result.tracking.p95_ms),
            number(row.result.lost.frames), number(row.result.lost.median_ms),
            number(row.result.lost.p95_ms),
        )
        for row in results.flights
    ]  # fmt: skip
    lines += [
        (
            f"{row.land}, {row.errors}, alone", row.part, "0", ABSENT, ABSENT,
            number(row.times.frames), number(row.times.median_ms), number(row.times.p95_ms),
        )
        for row in results.still
        if row.method == OURS
    ]  # fmt: skip
    header = (
        "cost, frame to fix", "part", "tracking", "median ms", "p95 ms", "lost", "median ms",
        "p95 ms",
    )  # fmt: skip
    return TextTable("Cost on two cores", header, lines)


def _honesty(score: Score) -> tuple[str, ...]:
    values = (score.false_fixes, score.coverage_68_percent, score.coverage_95_percent)
    return tuple(number(value) for value in values)


def _ms(value: float | None, scaled_by: float) -> str:
    return number(None if value is None else value * scaled_by)


def _order(errors: str) -> int:
    return [EXACT.name, WITHIN_20.name, UNKNOWN.name, NO_HEADING.name].index(errors)


def _wrong(starts: Sequence[Start], found: float) -> int:
    """Searches that ended at a wrong place, or too late."""
    ended = sum(start.seconds is not None for start in starts)
    return ended - round(found * len(starts) / 100)


def _quantile(values: Sequence[float], share: float) -> float | None:
    return values[min(len(values) - 1, int(share * len(values)))] if values else None
