"""What issue 5 asks for, beside what was reached, seen and unseen side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from navigation_flights import FlightRow
from navigation_noise import EXACT, UNKNOWN, WITHIN_20, Errors
from navigation_results import DRAWN, FENGYUAN, LAND, NAIP, NUST, PARTS, Results
from navigation_scores import coverage_of
from navigation_still import OURS, StillRow, best_peers, speed
from tables import ABSENT, TextTable, number, verdict

Reached = Callable[[Results, str], float | None]  # of a part; None where it was not run


@dataclass(frozen=True)
class Floor:
    """A number that is asked for."""

    what: str
    reached: Reached
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """As a cell."""
        low = "" if self.at_least is None else f">= {self.at_least:g}"
        high = "" if self.at_most is None else f"<= {self.at_most:g}"
        return " ".join(filter(None, (low, high)))

    def cells(self, results: Results, part: str) -> tuple[str, str]:
        """The value and whether it holds."""
        value = self.reached(results, part)
        if value is None:
            return ABSENT, ABSENT
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        return number(value, 2 if value < 1 else 1), verdict(met=low and high)


def floor_table(results: Results) -> TextTable:
    """The floors of what was run."""
    lines = [
        (floor.what, floor.bound, *(cell for part in PARTS for cell in floor.cells(results, part)))
        for floor in FLOORS
    ]
    header = ("what", "bound", *(cell for part in PARTS for cell in (part, "")))
    return TextTable("What is asked", header, [line for line in lines if set(line[2:]) != {ABSENT}])


def still_floors(
    land: str, errors: Errors, within: float, *, median_m: float | None = None,
    times: float | None = None, p95_ms: float | None = None,
) -> list[Floor]:  # fmt: skip
    """Of frames alone, under one kind of error."""

    def of_row(value: Callable[[StillRow], float | None]) -> Reached:
        def reached(results: Results, part: str) -> float | None:
            row = own_row_of(results, land, errors, part)
            return None if row is None else value(row)

        return reached

    def faster(results: Results, part: str) -> float | None:
        row = own_row_of(results, land, errors, part)
        peer = best_peers(results.still).get((land, errors.name, part))
        return None if row is None or peer is None else speed(row, peer)

    name = f"{land}, {errors.name}: "
    center = of_row(lambda row: row.scores.center.all_frames.within_25_m_percent)
    median = of_row(lambda row: row.scores.center.all_frames.median_m)
    p95 = of_row(lambda row: row.times.p95_ms)
    floors = [Floor(f"{name}centre within 25 m, %", center, at_least=within)]
    if median_m is not None:
        floors.append(Floor(f"{name}centre's median error, m", median, at_most=median_m))
    if times is not None:
        floors.append(Floor(f"{name}times faster than the best peer", faster, at_least=times))
    if p95_ms is not None:
        floors.append(Floor(f"{name}p95 of a frame, ms", p95, at_most=p95_ms))
    return floors


def flight_floors(kind: str, within: float) -> list[Floor]:
    """Of recorded flights; the worst one counts."""
    frame = _worst(kind, max, lambda row: row.result.start.frames
                   if row.result.start.seconds is not None else float("inf"))  # fmt: skip
    false = _worst(kind, max, lambda row: row.result.scores.center.all_frames.false_fixes)
    later = _worst(kind, min, lambda row: row.result.later.within_25_m_percent or 0.0)
    return [
        Floor(f"{kind} flights: within 25 m after the first fix, %", later, at_least=within),
        Floor(f"{kind} flights: first fix at frame", frame, at_most=4),
        Floor(f"{kind} flights: false fixes", false, at_most=0),
    ]


def simulated_floors(kind: str) -> list[Floor]:
    """Of simulated flights; coverage is over all of a kind, the errors' floor the worst one's."""

    def found(results: Results, part: str) -> float | None:
        rows = [row for row in _rows(results, kind, part) if row.found_percent is not None]
        searches = sum(len(row.starts) for row in rows)
        right = sum(len(row.starts) * (row.found_percent or 0.0) for row in rows)
        return right / searches if searches else None

    def covered(level: int) -> Reached:
        return lambda results, part: coverage_of(
            [row.result.later for row in _rows(results, kind, part)], level
        )

    steps = _worst(kind, max, lambda row: float("inf") if row.result.later.median_m is None
                   else row.result.later.median_m / row.step_m)  # fmt: skip
    return [
        Floor(f"{kind}: lost starts found in 60 s, %", found, at_least=95),
        Floor(f"{kind}: median error / tile step", steps, at_most=0.2),
        Floor(f"{kind}: in the 68 % ellipse, %", covered(68), at_least=63, at_most=73),
        Floor(f"{kind}: in the 95 % ellipse, %", covered(95), at_least=90, at_most=98),
    ]


def own_row_of(results: Results, land: str, errors: Errors, part: str) -> StillRow | None:
    """Skyfix's own row of a part."""
    wanted = (land, errors.name, part, OURS)
    return next(
        (row for row in results.still if (row.land, row.errors, row.part, row.method) == wanted),
        None,
    )


def _worst(
    kind: str, worst: Callable[[Iterable[float]], float], value: Callable[[FlightRow], float]
) -> Reached:
    def reached(results: Results, part: str) -> float | None:
        values = [value(row) for row in _rows(results, kind, part)]
        return worst(values) if values else None

    return reached


def _rows(results: Results, kind: str, part: str) -> Sequence[FlightRow]:
    return [row for row in results.flights if row.part == part and row.flight.startswith(kind)]


def _claimed(results: Results, part: str) -> float | None:
    positions = [row.claims.positions for row in results.wrong if row.part == part]
    return sum(positions) if positions else None


def _tracking(results: Results, part: str) -> float | None:
    p95s = [row.result.tracking.p95_ms for row in results.flights if row.part == part]
    return max((p95 for p95 in p95s if p95 is not None), default=None)


FLOORS = (
    *still_floors(FENGYUAN, EXACT, 98, median_m=4),
    *still_floors(FENGYUAN, WITHIN_20, 98, median_m=5, times=40),
    *still_floors(FENGYUAN, UNKNOWN, 95, median_m=6, times=20),
    *still_floors(LAND, WITHIN_20, 90, p95_ms=400),
    *still_floors(LAND, UNKNOWN, 90, p95_ms=400),
    *flight_floors(FENGYUAN, 98),
    *flight_floors(NUST, 95),
    *simulated_floors(NAIP),
    *simulated_floors(DRAWN),
    Floor("no place on the map: false fixes in all frames", _claimed, at_most=1),
    Floor("tracking, worst flight's p95, ms", _tracking, at_most=80),
)
