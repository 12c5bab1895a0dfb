"""When a leader becomes a position: confirmation, the gates on motion, loss and jumps.

    searching --two frames in a row lead to one place, within reach of each other, together
                by enough, and the last one stands out--> tracking
    tracking  --undecided, but within reach--> degraded --stands out--> tracking
    tracking, degraded --undecided, out of reach, or silent too long--> lost
    lost      --as searching; or by one frame's worth of new ground, while the map is trusted-->
                tracking

A value and a function, like the belief: the localizer only keeps the latest.
"""

import math
from dataclasses import dataclass, replace

from ..types import Reason, Status

STAND_OUT = 0.95  # weight of the leader with which a search ends
HOLD = 0.5  # weight of the leader above which a tracked position is kept
REJECT = 0.5  # unexplained weight above which a frame lies elsewhere
CONFIRMING_FRAMES = 2  # in a row, before the first fix: no single frame is a position
# Log odds that a streak must gather by its frames alone, counted from where they were last against
# it (a CUSUM: E. S. Page, "Continuous Inspection Schemes", Biometrika 1954). A frame over the wrong
# map gathers 4 about once in a thousand; neighbours that see the same ground are wrong together, so
# theirs counts by what is new (reckoning.py). With 6 as with 8 none of 100 searches over naip of
# other years was more than 75 m off, and with 8 fewer ended. benchmarks/navigation.py counts both.
CONFIRMING_EVIDENCE = 6.0
# One frame's worth brings a lost flight back where it is as sure as this, and the flight still
# believed to be over its map: what two frames in a row are for, at the start, is known by then.
ALONE = 0.99  # weight of its leader
# What that takes of a frame of new ground over a trusted map; of seen ground, of several.
ALONE_EVIDENCE = 1.6
TRUSTED_OFF_MAP = 0.05  # probability, by all frames before
STALE_S = 10.0  # of silence, after which a track has to be confirmed again
# Of a place against visual odometry, 99.97 % of normal errors. Along a road or a furrow a picture
# fits anywhere, but not the movement from one to the next.
STRAYED_STDS = 4.0
GATE_STDS = 3.0  # of the place, beyond what the drone can have flown

FOLLOWED = (Status.TRACKING, Status.DEGRADED)


@dataclass(frozen=True)
class Sight:
    """What one frame says: its leader."""

    time_ns: int
    east_m: float
    north_m: float
    std_m: float  # per axis, with the swing of the image's centre beside the drone
    weight: float
    unexplained: float = 0.0  # weight of "none of the places that were looked at"
    evidence: float = math.inf  # log odds of the leader by what is new in this frame
    # deviations off where pictures have carried the last one that led, and the last fix
    off_seen: float = 0.0
    off_fixed: float = 0.0
    off_map: float = 0.5  # probability by all frames before that the flight is not over the map


@dataclass(frozen=True)
class Track:
    """What the frames so far amount to."""

    status: Status = Status.SEARCHING
    seen: Sight | None = None  # the last leader that stood out, or of a search that led
    fixed: Sight | None = None  # the last one that was published as tracking
    velocity_en_mps: tuple[float, float] = (0.0, 0.0)  # between the last two of those
    streak: int = 0  # frames in a row that stood out, or led, within reach of each other
    evidence: float = 0.0  # that they have gathered
    rejects: int = 0  # frames in a row that lie at none of the places looked at, or have strayed
    jumps: int = 0  # fixes out of reach of the fix before

    def match_age_ms(self, time_ns: int) -> float | None:
        """Since the last frame that was tracking; None before the first."""
        return None if self.fixed is None else max(0, time_ns - self.fixed.time_ns) * 1e-6

    def ahead_en_m(self, time_ns: int) -> tuple[float, float] | None:
        """Where a drone that goes on as it did would be; None where that is too long ago."""
        if self.fixed is None or (time_ns - self.fixed.time_ns) * 1e-9 > STALE_S:
            return None
        elapsed_s = (time_ns - self.fixed.time_ns) * 1e-9
        east_mps, north_mps = self.velocity_en_mps
        return (
            self.fixed.east_m + elapsed_s * east_mps, self.fixed.north_m + elapsed_s * north_mps,
        )  # fmt: skip


def followed(track: Track, sight: Sight, max_speed_mps: float) -> tuple[Track, Reason | None]:
    """The track after a frame with a leader, and why it is no fix or one with a caveat."""
    current = track.status in FOLLOWED and not _stale(track, sight.time_ns)
    strayed, rejects = has_strayed(sight), track.rejects
    agrees = within_reach(track.seen, sight, max_speed_mps) and not strayed
    if sight.weight >= STAND_OUT or (not current and sight.weight >= HOLD):
        going_on = agrees and track.streak > 0
        streak = track.streak + 1 if going_on else 1
        evidence = sight.evidence + (max(track.evidence, 0.0) if going_on else 0.0)
        track = replace(track, seen=sight, streak=streak, evidence=evidence,
                        rejects=rejects + 1 if strayed else 0)  # fmt: skip
    if sight.weight >= STAND_OUT:
        confirmed = streak >= CONFIRMING_FRAMES and evidence >= CONFIRMING_EVIDENCE
        if confirmed or (current and agrees) or _returns(track, sight, max_speed_mps):
            jumped = not _near_fixed(track, sight, max_speed_mps)
            velocity = (0.0, 0.0) if jumped else _velocity(track.fixed, sight)
            fixed = replace(
                track, status=Status.TRACKING, fixed=sight, velocity_en_mps=velocity,
                rejects=0, jumps=track.jumps + jumped,
            )  # fmt: skip
            return fixed, None
        reason = Reason.INCONSISTENT if current else Reason.UNCONFIRMED
        return replace(track, status=_unfixed(track.status)), reason
    if current and agrees and sight.weight >= HOLD:
        return replace(track, status=Status.DEGRADED, streak=0, rejects=0), Reason.AMBIGUOUS
    rejects = rejects + 1 if strayed or sight.unexplained > REJECT else 0
    led = track.seen is sight  # a search goes on where it is led
    lost = replace(track, status=_unfixed(track.status), rejects=rejects,
                   streak=track.streak if led else 0)  # fmt: skip
    return lost, Reason.AMBIGUOUS


def unseen(track: Track, time_ns: int) -> Track:
    """The track after a frame that showed no place."""
    status = track.status
    if status in FOLLOWED:
        status = Status.LOST if _stale(track, time_ns) else Status.DEGRADED
    return replace(track, status=status, streak=0)


def has_strayed(sight: Sight) -> bool:
    """Whether a leader lies where pictures say that the last one that led cannot be now."""
    return sight.off_seen > STRAYED_STDS


def within_reach(before: Sight | None, sight: Sight, max_speed_mps: float) -> bool:
    """Whether the drone can have flown from one place to the other."""
    if before is None:
        return True
    apart_m = math.hypot(sight.east_m - before.east_m, sight.north_m - before.north_m)
    flown_m = abs(sight.time_ns - before.time_ns) * 1e-9 * max_speed_mps
    return apart_m <= flown_m + GATE_STDS * math.hypot(before.std_m, sight.std_m)


def _returns(track: Track, sight: Sight, max_speed_mps: float) -> bool:
    """Whether a flight that had a position has one again by one frame's worth of new ground."""
    trusted = track.fixed is not None and sight.off_map <= TRUSTED_OFF_MAP
    sure = sight.weight >= ALONE and track.evidence >= ALONE_EVIDENCE
    return trusted and sure and _near_fixed(track, sight, max_speed_mps)


def _near_fixed(track: Track, sight: Sight, max_speed_mps: float) -> bool:
    """Whether the drone can have come here from the last fix; one of no known age says nothing."""
    if track.fixed is None:
        return True
    strayed = sight.off_fixed > STRAYED_STDS
    return within_reach(track.fixed, sight, max_speed_mps) and not strayed


def _velocity(before: Sight | None, now: Sight) -> tuple[float, float]:
    """Over ground, between two fixes of one track."""
    if before is None or not 0 < (now.time_ns - before.time_ns) * 1e-9 <= STALE_S:
        return 0.0, 0.0
    elapsed_s = (now.time_ns - before.time_ns) * 1e-9
    return (now.east_m - before.east_m) / elapsed_s, (now.north_m - before.north_m) / elapsed_s


def _stale(track: Track, time_ns: int) -> bool:
    return track.seen is None or (time_ns - track.seen.time_ns) * 1e-9 > STALE_S


def _unfixed(status: Status) -> Status:
    """A search stays a search; anything else without a place is lost."""
    return Status.SEARCHING if status is Status.SEARCHING else Status.LOST
