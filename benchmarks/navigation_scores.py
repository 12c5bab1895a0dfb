"""What a flight's fixes are worth to a pilot: how soon, how near, how honest, at what cost.

    found      the first published position, and whether it is right
    cost       of a frame that came while the flight was followed, and while it was searched for
    claimed    positions where there can be none (sea, fog, night, another region): all are false

Errors, false fixes and coverage are those of `skyfix score`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.score import FlightScores, Score, score_flight
from skyfix.runtime.truth import Point, Truth
from skyfix.runtime.types import Status

FOLLOWED = {Status.TRACKING, Status.DEGRADED}
POINTS: tuple[Point, Point] = ("drone", "center")

Truths = Mapping[Point, Truth]


class Times(msgspec.Struct, frozen=True):
    """Frame to answer, decoding apart."""

    frames: int
    median_ms: float | None
    p95_ms: float | None


class Start(msgspec.Struct, frozen=True):
    """One search from nothing."""

    seconds: float | None  # of flight until the first position; None where there was none
    frames: int  # until then, or as many as were given
    error_m: float | None  # of the centre at the first position


class FlightResult(msgspec.Struct, frozen=True, kw_only=True):
    """One flight in its order, from a lost start."""

    scores: FlightScores
    start: Start
    tracking: Times
    lost: Times

    @property
    def later(self) -> Score:
        """Of the image's centre, from the first fix on."""
        return self.scores.center.from_first_fix


class Claims(msgspec.Struct, frozen=True):
    """What was said about frames that have no place on the map."""

    frames: int
    positions: int  # every one is a false fix
    reasons: dict[str, int]
    p95_ms: float | None


def flight_result(fixes: Sequence[FixMessage], truth: Truths) -> FlightResult:
    """Score a flight."""
    tracking, lost = times_by_state(fixes)
    return FlightResult(
        scores=score_flight(fixes, truth), start=first_position(fixes, truth),
        tracking=tracking, lost=lost,
    )  # fmt: skip


def first_position(fixes: Sequence[FixMessage], truth: Truths) -> Start:
    """When the first position came, and how far its centre was from the true one."""
    for count, fix in enumerate(fixes, start=1):
        if fix.lat_deg is not None:
            seconds = (fix.time_ns - fixes[0].time_ns) * 1e-9
            return Start(seconds, count, center_error_m(fix, truth))
    return Start(None, len(fixes), None)


def center_error_m(fix: FixMessage, truth: Truths) -> float | None:
    """Distance of a fix's centre from the truth; None where that is not known."""
    center = truth["center"]
    index = center.frames.index(fix.frame)
    lat, lon = float(center.lat_deg[index]), float(center.lon_deg[index])
    if fix.center_lat_deg is None or fix.center_lon_deg is None or np.isnan(lat + lon):
        return None
    east, north = LocalFrame(lat, lon).en_from_wgs84(fix.center_lat_deg, fix.center_lon_deg)
    return float(np.hypot(east, north))


def found_percent(starts: Sequence[Start], within_s: float, within_m: float) -> float | None:
    """Share of searches that ended in time at the right place."""
    if not starts:
        return None
    right = [
        start.seconds is not None and start.seconds <= within_s + 1e-6  # a sum of frame times
        and start.error_m is not None and start.error_m <= within_m
        for start in starts
    ]  # fmt: skip
    return 100 * sum(right) / len(right)


def coverage_of(scores: Sequence[Score], level: int) -> float | None:
    """Share of positions in their 68 or 95 % ellipses over several flights, by localised frames."""
    counted = [
        (score.frames * (score.localised_percent or 0.0), covered)
        for score in scores
        if (covered := score.coverage_68_percent if level == 68 else score.coverage_95_percent)
        is not None
    ]
    weight = sum(frames for frames, _ in counted)
    return sum(frames * covered for frames, covered in counted) / weight if weight else None


def times_by_state(fixes: Sequence[FixMessage]) -> tuple[Times, Times]:
    """Times of frames that came while there was a position, and while there was none.

    The state before a frame decides how far it is searched for, so that state counts.
    """
    tracking: list[float] = []
    lost: list[float] = []
    before = Status.SEARCHING
    for fix in fixes:
        (tracking if before in FOLLOWED else lost).append(fix.latency_ms or 0.0)
        before = fix.status
    return times_from_ms(tracking), times_from_ms(lost)


def times_from_ms(taken: Sequence[float]) -> Times:
    """Median and 95th percentile."""
    if not taken:
        return Times(0, None, None)
    median_ms, p95_ms = np.percentile(taken, (50, 95))
    return Times(len(taken), float(median_ms), float(p95_ms))


def times_of(fixes: Sequence[FixMessage]) -> Times:
    """Of all frames."""
    return times_from_ms([fix.latency_ms for fix in fixes if fix.latency_ms is not None])


def claims_of(fixes: Sequence[FixMessage]) -> Claims:
    """Positions and reasons of frames that have no place."""
    reasons = Counter("none" if fix.reason is None else fix.reason.value for fix in fixes)
    positions = sum(fix.lat_deg is not None for fix in fixes)
    return Claims(len(fixes), positions, dict(reasons.most_common()), times_of(fixes).p95_ms)


def pooled_fixes(runs: Iterable[Sequence[FixMessage]]) -> list[FixMessage]:
    """Several runs as one; `score_flight` wants every frame's name once."""
    return [
        msgspec.structs.replace(fix, frame=f"{number}/{fix.frame}")
        for number, fixes in enumerate(runs)
        for fix in fixes
    ]


def pooled_truths(truths: Sequence[Truths]) -> dict[Point, Truth]:
    """The truth that goes with `pooled_fixes`."""
    return {
        point: Truth(
            frames=tuple(
                f"{number}/{frame}"
                for number, truth in enumerate(truths)
                for frame in truth[point].frames
            ),
            lat_deg=np.concatenate([truth[point].lat_deg for truth in truths]),
            lon_deg=np.concatenate([truth[point].lon_deg for truth in truths]),
            std_m=np.concatenate([truth[point].std_m for truth in truths]),
        )
        for point in POINTS
    }


def part_of_truth(truth: Truths, frames: Iterable[str]) -> dict[Point, Truth]:
    """The truth of some frames alone."""
    wanted = set(frames)
    chosen = {
        point: np.array([frame in wanted for frame in truth[point].frames]) for point in POINTS
    }
    return {
        point: Truth(
            frames=tuple(frame for frame in truth[point].frames if frame in wanted),
            lat_deg=truth[point].lat_deg[chosen[point]],
            lon_deg=truth[point].lon_deg[chosen[point]],
            std_m=truth[point].std_m[chosen[point]],
        )
        for point in POINTS
    }
