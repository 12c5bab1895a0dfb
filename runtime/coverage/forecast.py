"""From imagined frames to the chance that the filter finds a place, and the time it takes.

A frame weighs the true place, its rivals and "nowhere" as the filter does (fuse/hypotheses.py):
by their masses, and by the log odds that their correlations are worth. A place is found when the
true one stands out CONFIRMING_FRAMES times in a row and together by CONFIRMING_EVIDENCE. In flight
frames that only lead count as well (fuse/track.py), and correlation may look everywhere
(fuse/everywhere.py), which is sooner than is said here; ground that is flown over again, and
rivals that a search has ruled out on the same ground (fuse/crowd.py), make it later. How many
places a frame looks at (`Likelihood.among`), and what is known of its attitude, are left out.

What fits nowhere leaves the belief as it was. Between frames it moves with the drone, so what is
remembered of a rival is its offset from the true place: a copy of the ground keeps its offset while
the drone flies over it, a chance resemblance does not. With independent frames of one probability p
this is the waiting time for a run of n successes, (p^-n - 1) / (1 - p) frames. Frames that see much
of the same ground gather less evidence, as in fuse/reckoning.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..fuse.crowd import LONE_RIVAL
from ..fuse.hypotheses import OFF_MAP, nowhere_of, off_map_after
from ..fuse.likelihood import Likelihood
from ..fuse.track import CONFIRMING_EVIDENCE, CONFIRMING_FRAMES, STAND_OUT
from .rivals import CELL, Look

MAX_FRAMES = 120  # of a search, after which it is said to find nothing
REACH_STEPS = 1.5  # within which a place is the one that was seen before: odometry's error
UNSEEN = -1.0  # correlation of a place that the filter does not look at

Array = NDArray[np.float64]
Float = NDArray[np.float32]
Int = NDArray[np.int64]
Path = Callable[[Int, int], Int]  # starting places (B,), frame -> places (B,)


@dataclass(frozen=True)
class Frames:
    """Imagined frames of P places, F each: the true place first, then K rivals."""

    mass: Float  # (P, F, 1 + K) share of a uniform belief
    rest: Float  # (P, F) of everything else
    correlation: Float  # (P, F, 1 + K)
    offset: Int  # (P, F, K, 2) rows and columns of the rivals from the true place
    tiles: int  # of the map

    @staticmethod
    def of(look: Look, own: Float, rivals: Float, places: Int, tiles: int) -> "Frames":
        """Put together what the scan (own mass) and the overview (correlation) say.

        Args:
            look: masses of the scan.
            own: correlation (P, F) with the true place.
            rivals: correlation (P, F, K) with each rival.
            places: tiles (P, 2) of the true places.
            tiles: how many the map has.
        """
        return Frames(
            mass=np.concatenate([look.own[..., None], look.mass], axis=2),
            rest=look.rest,
            correlation=np.concatenate([own[..., None], rivals], axis=2),
            offset=look.cell - places[:, None, None],
            tiles=tiles,
        )


@dataclass(frozen=True)
class Memory:
    """What B flights believe: weights of the true place, of rivals by offset, of all else."""

    own: Float  # (B,)
    rivals: Float  # (B, K)
    offset: Int  # (B, K, 2)
    rest: Float  # (B,)
    off_map: Float  # (B,) probability that the flight is not over the map
    fresh: NDArray[np.bool_]  # (B,) nothing was seen before

    @staticmethod
    def lost(flights: int, rivals: int) -> "Memory":
        """Flights that know nothing."""
        return Memory(
            np.zeros(flights, np.float32), np.zeros((flights, rivals), np.float32),
            np.zeros((flights, rivals, 2), np.int64), np.ones(flights, np.float32),
            np.full(flights, OFF_MAP, np.float32), np.ones(flights, bool),
        )  # fmt: skip

    def only(self, chosen: NDArray[np.bool_]) -> "Memory":
        """The chosen flights (B,)."""
        return Memory(
            self.own[chosen], self.rivals[chosen], self.offset[chosen], self.rest[chosen],
            self.off_map[chosen], self.fresh[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a frame makes of n places, (...) being any number of frames."""

    weight: Float  # (..., n)
    nowhere: Float  # (...) weight of none of them
    evidence: Float  # (...) log odds of the leader by this frame alone


def lost_weights(frames: Frames, likelihood: Likelihood) -> Float:
    """Weights (P, F, 1 + K) after a single frame from a uniform belief."""
    looked = looked_at(frames.mass, frames.correlation)
    return weighed(frames.mass, looked, nowhere_of(OFF_MAP), likelihood).weight


def looked_at(mass: Float, correlation: Float) -> Float:
    """Correlations (..., 1 + K), without the true place's where it is not among the K best."""
    seen = mass[..., 0] > mass[..., 1:].min(axis=-1)
    looked: Float = correlation.copy()
    looked[..., 0] = np.where(seen, correlation[..., 0], UNSEEN)
    return looked


def weighed(
    mass: Float, correlation: Float, nowhere: Float | float, likelihood: Likelihood
) -> Verdict:
    """`weighed` of fuse/hypotheses.py for many frames at once, by mass and correlation alone.

    The places are so far apart that all but the best one are its rivals.

    Args:
        mass: (..., n) of the places.
        correlation: (..., n) of the places.
        nowhere: (...) prior probability of none of them.
        likelihood: the model's.
    """
    ordered = np.sort(correlation, axis=-1)
    best = ordered[..., -1]
    rival = np.minimum(best, np.maximum(ordered[..., -2], LONE_RIVAL))
    evidence = likelihood.evidence(best, rival)
    behind = correlation - best[..., None]
    below = likelihood.per_gap * behind
    log_mass = np.log(np.maximum(mass, 1e-12))
    log = log_mass + below
    odds = np.asarray(nowhere / (1 - nowhere))
    log_nowhere = np.log(odds) + log_mass.max(axis=-1) - evidence
    top = np.maximum(log.max(axis=-1), log_nowhere)
    weight, none = np.exp(log - top[..., None]), np.exp(log_nowhere - top)
    total = weight.sum(axis=-1) + none
    leader = log.argmax(axis=-1)[..., None]
    behind = np.take_along_axis(below, leader, -1)[..., 0]
    return Verdict(
        (weight / total[..., None]).astype(np.float32),
        (none / total).astype(np.float32),
        (evidence + behind).astype(np.float32),
    )


def first_fix_frames(
    frames: Frames, starts: Int, path: Path, temper: float, likelihood: Likelihood,
    rng: np.random.Generator,
) -> tuple[Float, NDArray[np.bool_]]:  # fmt: skip
    """Frames that lost flights need until their first fix.

    Args:
        frames: imagined frames of P places.
        starts: where the flights (B,) start, as `path` counts.
        path: over which of the P places they are at the k-th frame, -1 for none.
        temper: of frames that follow another one, for the ground that both see.
        likelihood: the model's.
        rng: draws the frames.

    Returns:
        (B,) number of the fixing frame, the first is 1 (infinite where there is none within
        MAX_FRAMES), and (B,) whether that fix was the true place.
    """
    needed = np.full(len(starts), np.inf, np.float32)
    right = np.zeros(len(starts), bool)
    flying = np.arange(len(starts))
    streak = np.zeros((len(starts), 2), int)  # of the true place, of another
    gathered = np.zeros((len(starts), 2))  # evidence of the same
    rival = np.zeros((len(starts), 2), int)  # offset of the last one that stood out
    memory = Memory.lost(len(starts), frames.mass.shape[2] - 1)
    for number in range(MAX_FRAMES):
        place = path(starts[flying], number)
        over = place >= 0
        drawn = (place, rng.integers(0, frames.mass.shape[1], len(place)))
        tempers = np.where(memory.fresh, 1.0, temper)
        after, verdict = _seen(frames, drawn, memory, likelihood)
        memory = _merged(memory, after, over)
        stands = np.stack([verdict.weight[:, 0], verdict.weight[:, 1:].max(axis=1)], axis=1)
        stands = (stands >= STAND_OUT) & over[:, None]
        leading = after.offset[np.arange(len(place)), verdict.weight[:, 1:].argmax(axis=1)]
        agrees = np.stack([over, np.hypot(*(leading - rival).T) <= REACH_STEPS], axis=1)
        rival = np.where(stands[:, 1:], leading, rival)
        streak = np.where(stands, np.where(agrees, streak + 1, 1), 0)
        gathered = np.where(agrees, gathered, 0.0) + (tempers * verdict.evidence)[:, None]
        gathered = np.where(stands, gathered, 0.0)
        confirmed = (streak >= CONFIRMING_FRAMES) & (gathered >= CONFIRMING_EVIDENCE)
        done: NDArray[np.bool_] = np.any(confirmed, axis=1)
        needed[flying[done]], right[flying[done]] = number + 1, confirmed[done, 0]
        still = np.logical_not(done)
        flying, memory = flying[still], memory.only(still)
        streak, gathered, rival = streak[still], gathered[still], rival[still]
        if not len(flying):
            break
    return needed, right


def _seen(
    frames: Frames, index: tuple[Int, Int], memory: Memory, likelihood: Likelihood
) -> tuple[Memory, Verdict]:
    """What flights (B,) believe after their next frame, `index` of the imagined ones."""
    offset = frames.offset[index]
    share = CELL**2 / frames.tiles  # of a cell, in a uniform belief
    remembered = _remembered(memory, offset)
    before = np.maximum(remembered, share * memory.rest[:, None])
    before, before_rest = _shares(before, np.maximum(1 - before.sum(axis=1), 0))
    # how much likelier than one never thought of; what is remembered has spread meanwhile
    spread = min(np.pi * REACH_STEPS**2, frames.tiles) / frames.tiles
    recalled = remembered / spread + memory.rest[:, None]
    mass, _ = _shares(frames.mass[index] * recalled, frames.rest[index] * memory.rest)
    looked = looked_at(mass, frames.correlation[index])
    verdict = weighed(mass, looked, nowhere_of(memory.off_map), likelihood)
    # "nowhere" leaves the belief as it was; a rival that is not among these dissolves in the rest
    kept = verdict.weight + verdict.nowhere[:, None] * before
    left = verdict.nowhere * before_rest
    off_map = off_map_after(memory.off_map, verdict.nowhere)
    new = np.zeros(len(left), bool)
    return Memory(kept[:, 0], kept[:, 1:], offset, left, off_map, new), verdict


def _shares(mass: Array | Float, rest: Array | Float) -> tuple[Float, Float]:
    """Of places (B, 1 + K) and of all else (B,), with a sum of one."""
    total = np.maximum(mass.sum(axis=1) + rest, 1e-30)
    return (mass / total[:, None]).astype(np.float32), (rest / total).astype(np.float32)


def _remembered(memory: Memory, offset: Int) -> Float:
    """What is believed of the true place and of rivals at offsets (B, K, 2), (B, 1 + K)."""
    apart = np.hypot(*(offset[:, :, None] - memory.offset[:, None]).transpose(3, 0, 1, 2))
    before = ((apart <= REACH_STEPS) * memory.rivals[:, None]).max(axis=2)
    remembered: Float = np.concatenate([memory.own[:, None], before], axis=1).astype(np.float32)
    return remembered


def _merged(before: Memory, after: Memory, seen: NDArray[np.bool_]) -> Memory:
    """What came after, where something was seen."""
    return Memory(
        np.where(seen, after.own, before.own),
        np.where(seen[:, None], after.rivals, before.rivals),
        np.where(seen[:, None, None], after.offset, before.offset),
        np.where(seen, after.rest, before.rest),
        np.where(seen, after.off_map, before.off_map),
        np.where(seen, after.fresh, before.fresh),
    )
