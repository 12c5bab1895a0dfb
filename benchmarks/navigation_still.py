"""Every frame alone, no prior: skyfix and its peers over one map under errors of one kind.

The peers are masked NCC with heading and height as told, the same swept over all that the errors
allow, and SIFT + RANSAC. The sweep knows the bounds of the errors, which skyfix is told only as
standard deviations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from flights import SIFT, SIFT_GSD_M, fix_from_match, footprint_px, own_fixes, whole_map
from navigation_noise import Errors, with_errors
from navigation_scores import (
    Times,
    Truths,
    part_of_truth,
    pooled_fixes,
    pooled_truths,
    times_of,
)
from peers import MapSpectra, SiftMap, map_spectra, sift_map, sift_ransac, swept_ncc

from skyfix.runtime.encoder import Model
from skyfix.runtime.localizer import LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import RasterReader
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.replay import Recording
from skyfix.runtime.score import FlightScores, score_flight
from skyfix.runtime.types import Frame, LostFrame, Telemetry

OURS = "skyfix"
SWEEP_HEADINGS, SWEEP_SCALES = 9, 5  # DESIGN.md's sweep
ROUND_HEADINGS = 45  # where any heading may be
UNKNOWN_GSD_M = 2.0  # 225 fields a frame at 1 m a pixel take six seconds


@dataclass(frozen=True)
class StillFlight:
    """A flight whose frames are localised one by one."""

    recording: Recording
    truth: Truths


@dataclass(frozen=True)
class PeerGround:
    """One map as the peers search it; what is prepared once counts in no frame's time."""

    reader: RasterReader
    spectra: tuple[MapSpectra, ...]
    keypoints: SiftMap | None  # None: SIFT does not take part


class StillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One method under one kind of error."""

    land: str
    errors: str
    part: str  # seen or unseen while tuning
    method: str
    scores: FlightScores
    times: Times
    scaled_by: float = 1.0  # what the measured time is multiplied with: area left out


def peer_ground(
    reader: RasterReader, recording: Recording, gsds_m: Sequence[float], *, sift: bool
) -> PeerGround:
    """Prepare a map for templates of a recording's true footprint."""
    spectra = tuple(
        map_spectra(*whole_map(reader, gsd_m), gsd_m, footprint_px(recording, gsd_m))
        for gsd_m in gsds_m
    )
    keypoints = sift_map(whole_map(reader, SIFT_GSD_M)[0], SIFT_GSD_M) if sift else None
    return PeerGround(reader, spectra, keypoints)


def still_rows(
    land: str, part: str, flight: StillFlight, errors: Errors, pack: TilePack, model: Model,
    draws: int, maps: PeerGround | None = None, *, every: int = 1, scaled_by: float = 1.0,
) -> list[StillRow]:  # fmt: skip
    """Skyfix over all draws of the errors, and its peers, who take turns with it at each frame.

    A machine that is slower for a while is slower for all. The peers look at every n-th frame
    alone, where a whole flight takes long; `scaled_by`: how much larger the map is than theirs.
    """
    settings = LocalizerSettings(independent=True)
    warm = replace(flight.recording, rows=flight.recording.rows[:1])
    own_fixes(pack, model, warm, settings)  # the first call allocates and maps the pack
    runs: dict[str, list[Sequence[FixMessage]]] = {OURS: []}
    looked_at = compared(flight, every)
    for draw in range(draws):
        misled = with_errors(flight.recording.rows, errors, draw)
        recording = replace(flight.recording, rows=misled)
        if maps is None:
            runs[OURS].append(own_fixes(pack, model, recording, settings))
            continue
        peers = Peers(maps, errors, flight.recording, looked_at)
        runs[OURS].append(own_fixes(pack, model, recording, settings, peers.look))
        for method, answers in peers.answers.items():
            runs.setdefault(method, []).append(answers)
    return [
        _row(land, part, errors, method, fixes, flight.truth, 1.0 if method == OURS else scaled_by)
        for method, fixes in runs.items()
    ]


class Peers:
    """The peers' answers to the frames of a flight."""

    def __init__(
        self, maps: PeerGround, errors: Errors, true: Recording, frames: frozenset[str]
    ) -> None:
        """`true` only gives the templates' size; other frames than these are left out."""
        self._maps, self._true, self._frames = maps, true, frames
        self._sweeps = {
            (name, spectra.gsd_m): (spectra, headings, scales)
            for spectra in maps.spectra
            for name, headings, scales in sweeps_under(errors, spectra)
        }
        self.answers: dict[str, list[FixMessage]] = {}

    def look(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> None:
        """Answer to one frame."""
        if not isinstance(frame, Frame) or telemetry is None or frame.frame_id not in self._frames:
            return
        camera, maps = self._true.camera, self._maps
        for (name, gsd_m), (spectra, headings, scales) in self._sweeps.items():
            match = swept_ncc(
                spectra, frame.image, camera, telemetry, footprint_px(self._true, gsd_m), headings,
                scales,
            )  # fmt: skip
            fix = fix_from_match(match, frame, maps.reader, gsd_m)
            self.answers.setdefault(name, []).append(fix)
        if maps.keypoints is not None:
            found = sift_ransac(maps.keypoints, frame.image, camera, telemetry)
            fix = fix_from_match(found, frame, maps.reader, SIFT_GSD_M)
            self.answers.setdefault(SIFT, []).append(fix)


def compared(flight: StillFlight, every: int) -> frozenset[str]:
    """All frames; or every n-th of those whose centre is known, to score few by the same point."""
    center = flight.truth["center"]
    known = np.flatnonzero(np.isfinite(center.lat_deg))[::every]
    return frozenset(center.frames if every == 1 else (center.frames[index] for index in known))


def sweeps_under(
    errors: Errors, spectra: MapSpectra
) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """Single NCC, and the sweep that the errors ask for: its name, headings and scales."""
    single = (f"single NCC, {spectra.gsd_m:g} m/px", (0.0,), (1.0,))
    if errors.heading_is_unknown and spectra.gsd_m != UNKNOWN_GSD_M:
        return []
    if not errors.yaw_half_deg:
        return [single]
    headings = headings_swept(errors)
    scales = tuple(1 / (1 + part) for part in _even(errors.height_half, SWEEP_SCALES))
    name = f"swept NCC, {spectra.gsd_m:g} m/px, {len(headings)} x {len(scales)}"
    return [single, (name, headings, scales)]


def headings_swept(errors: Errors) -> tuple[float, ...]:
    """Corrections of the told heading in degrees: within the bounds, or all around."""
    if errors.heading_is_unknown:
        return tuple(360 / ROUND_HEADINGS * index for index in range(ROUND_HEADINGS))
    return _even(errors.yaw_half_deg, SWEEP_HEADINGS)


def best_peers(rows: Sequence[StillRow]) -> Mapping[tuple[str, str, str], StillRow]:
    """By land, errors and part: the peer with most frames within 25 m; of several the slowest."""
    best: dict[tuple[str, str, str], StillRow] = {}
    for row in rows:
        key = (row.land, row.errors, row.part)
        if row.method != OURS and (key not in best or _rank(row) > _rank(best[key])):
            best[key] = row
    return best


def speed(row: StillRow, peer: StillRow) -> float | None:
    """How many times faster than a peer."""
    if not row.times.median_ms or not peer.times.median_ms:
        return None
    return peer.times.median_ms * peer.scaled_by / (row.times.median_ms * row.scaled_by)


def _rank(row: StillRow) -> tuple[float, float]:
    within = row.scores.center.all_frames.within_25_m_percent or 0.0
    return within, row.times.median_ms or 0.0


def _row(
    land: str, part: str, errors: Errors, method: str, runs: Sequence[Sequence[FixMessage]],
    truth: Truths, scaled_by: float,
) -> StillRow:  # fmt: skip
    """Score all draws as one; frames that were left out count for nobody."""
    fixes = pooled_fixes(runs)
    known = part_of_truth(truth, (fix.frame for fix in runs[0]))
    return StillRow(
        land=land, part=part, errors=errors.name, method=method,
        scores=score_flight(fixes, pooled_truths([known] * len(runs))), times=times_of(fixes),
        scaled_by=scaled_by,
    )  # fmt: skip


def _even(half: float, count: int) -> tuple[float, ...]:
    return tuple(float(value) for value in np.linspace(-half, half, count))
