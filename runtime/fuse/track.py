"""When a leader becomes a position: confirmation, the gate on motion, loss and jumps.

    searching --two frames in a row stand out, within reach of each other--> tracking
    tracking  --undecided, but within reach--> degraded --stands out--> tracking
    tracking, degraded --undecided, out of reach, or silent too long--> lost --as searching--> ...

A value and a function, like the belief: the localizer only keeps the latest.
"""

import math
from dataclasses import dataclass, replace

from ..types import Reason, Status

STAND_OUT = 0.95  # weight of the leader with which a search ends
HOLD = 0.5  # weight of the leader above which a tracked position is kept
REJECT = 0.5  # unexplained weight above which a frame lies elsewhere
CONFIRMING_FRAMES = 2  # in a row, before the first fix: no single frame is a position
STALE_S = 10.0  # of silence, after which a track has to be confirmed again
GATE_STDS = 3.0  # of the place, beyond what the drone can have flown

FOLLOWED = (Status.TRACKING, Status.DEGRADED)


@dataclass(frozen=True)
class Sight:
    """What one frame says: its leader."""

    time_ns: int
    east_m: float
    north_m: float
    std_m: float
    weight: float
    unexplained: float = 0.0  # weight of "none of the places that were looked at"


@dataclass(frozen=True)
class Track:
    """What the frames so far amount to."""

    status: Status = Status.SEARCHING
    seen: Sight | None = None  # the last leader that stood out
    fixed: Sight | None = None  # the last one that was published as tracking
    streak: int = 0  # frames in a row that stood out within reach of each other
    rejects: int = 0  # frames in a row that lie at none of the places looked at
    jumps: int = 0  # fixes out of reach of the fix before

    def match_age_ms(self, time_ns: int) -> float | None:
        """Since the last frame that was tracking; None before the first."""
        return None if self.fixed is None else max(0, time_ns - self.fixed.time_ns) * 1e-6


def followed(track: Track, sight: Sight, max_speed_mps: float) -> tuple[Track, Reason | None]:
    """The track after a frame with a leader, and why it is no fix or one with a caveat."""
    current = track.status in FOLLOWED and not _stale(track, sight.time_ns)
    agrees = within_reach(track.seen, sight, max_speed_mps)
    if sight.weight >= STAND_OUT:
        streak = track.streak + 1 if agrees else 1
        track = replace(track, seen=sight, streak=streak, rejects=0)
        if streak >= CONFIRMING_FRAMES or (current and agrees):
            jumped = not within_reach(track.fixed, sight, max_speed_mps)
            fixed = replace(track, status=Status.TRACKING, fixed=sight, jumps=track.jumps + jumped)
            return fixed, None
        reason = Reason.INCONSISTENT if current else Reason.UNCONFIRMED
        return replace(track, status=_unfixed(track.status)), reason
    if current and agrees and sight.weight >= HOLD:
        return replace(track, status=Status.DEGRADED, streak=0, rejects=0), Reason.AMBIGUOUS
    rejects = track.rejects + 1 if sight.unexplained > REJECT else 0
    lost = replace(track, status=_unfixed(track.status), streak=0, rejects=rejects)
    return lost, Reason.AMBIGUOUS


def unseen(track: Track, time_ns: int) -> Track:
    """The track after a frame that showed no place."""
    status = track.status
    if status in FOLLOWED:
        status = Status.LOST if _stale(track, time_ns) else Status.DEGRADED
    return replace(track, status=status, streak=0)


def within_reach(before: Sight | None, sight: Sight, max_speed_mps: float) -> bool:
    """Whether the drone can have flown from one place to the other."""
    if before is None:
        return True
    apart_m = math.hypot(sight.east_m - before.east_m, sight.north_m - before.north_m)
    flown_m = abs(sight.time_ns - before.time_ns) * 1e-9 * max_speed_mps
    return apart_m <= flown_m + GATE_STDS * math.hypot(before.std_m, sight.std_m)


def _stale(track: Track, time_ns: int) -> bool:
    return track.seen is None or (time_ns - track.seen.time_ns) * 1e-9 > STALE_S


def _unfixed(status: Status) -> Status:
    """A search stays a search; anything else without a place is lost."""
    return Status.SEARCHING if status is Status.SEARCHING else Status.LOST
