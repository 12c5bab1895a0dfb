"""Camera frame -> fix: the whole method on one screen, in `Localizer.step`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from .encoder import Model
from .errors import InputError, PackModelError
from .fuse.belief import (
    Belief,
    disc_belief,
    leaders,
    predicted,
    uniform_belief,
    updated,
    window_of,
)
from .fuse.hypotheses import (
    COUNT,
    OUTLIER,
    OUTLIER_SEARCHING,
    SEPARATION_STEPS,
    Weighed,
    absorbed,
    refined,
    unrefined,
)
from .fuse.integrity import (
    UNREFINED_STD_STEPS,
    Covariance,
    center_covariance,
    drone_covariance,
    margin,
    spread_of,
)
from .fuse.refine import template_from_patch
from .fuse.track import FOLLOWED, STAND_OUT, Sight, Track, followed, unseen
from .maps.pack import TilePack
from .maps.search import window_scores
from .sense.camera import Camera
from .sense.ortho import patch_from_frame
from .types import Fix, Frame, LostFrame, Patch, Reason, Status, Telemetry

LOST_FRAMES = 3  # in a row without a consistent place, after which the search starts anew


@dataclass(frozen=True)
class Prior:
    """Where the drone starts, roughly."""

    lat_deg: float
    lon_deg: float
    radius_m: float


@dataclass(frozen=True)
class LocalizerSettings:
    """What a user may choose."""

    prior: Prior | None = None
    independent: bool = False  # every frame alone, without the filter
    refine: bool = True
    max_speed_mps: float = 30.0  # over ground; bounds what the filter believes between frames
    tilt_std_deg: float = 5.0  # of the camera's true axis around what the telemetry says


@dataclass
class StageClock:
    """Milliseconds spent in each stage of one frame."""

    started_s: float = field(default_factory=time.perf_counter)
    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        before = time.perf_counter()
        yield
        self.stages_ms[name] = (time.perf_counter() - before) * 1e3

    @property
    def total_ms(self) -> float:
        """Since the frame came in."""
        return (time.perf_counter() - self.started_s) * 1e3


class Localizer:
    """Keeps a belief about the position and turns each frame into a fix."""

    def __init__(
        self,
        pack: TilePack,
        model: Model,
        camera: Camera,
        settings: LocalizerSettings | None = None,
    ) -> None:
        """Check that the parts belong together; raises PackModelError, InputError."""
        if pack.manifest.model_id != model.card.model_id:
            raise PackModelError(
                f"the pack was made by model {pack.manifest.model_id}, this is "
                f"{model.card.model_id}. Build the pack again or name its model with --model."
            )
        self._pack, self._model, self._camera = pack, model, camera
        self._settings = settings or LocalizerSettings()
        self._belief = self._starting_belief()
        self._track = Track()
        self._last_time_ns: int | None = None  # of the last frame, usable or not
        self._backwards = self._sequence = 0

    def step(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        """The fix for one frame; never raises for what a frame or its telemetry holds."""
        clock = StageClock()
        with clock.stage("ortho"):
            patch = self._patch(frame, telemetry)
        if isinstance(patch, Reason) or telemetry is None:
            self._track = unseen(self._track, frame.time_ns)
            return self._without_position(frame, patch, clock)
        with clock.stage("encode"):
            query = self._model.query.describe([patch])[0]
        with clock.stage("search"):
            prior = self._moved(frame.time_ns)
            window = window_of(prior)
            scores = window_scores(self._pack, query, *window)
        with clock.stage("belief"):
            belief = updated(prior, window, scores)
            places = self._places(belief, window, scores)
        with clock.stage("refine"):
            if self._settings.refine:
                places = refined(
                    places, patch, self._pack.overview, self._pack.manifest.overview_gsd_m,
                    SEPARATION_STEPS * self._pack.grid.step_m / 2,
                    OUTLIER if self._track.status in FOLLOWED else OUTLIER_SEARCHING,
                )  # fmt: skip
        with clock.stage("integrity"):
            spread_m = spread_of(window, self._pack.grid.step_m)
            center_cov = center_covariance(places.hypotheses, places.unexplained, spread_m)
            reason = self._judge(frame.time_ns, belief, places, center_cov)
            return self._fix(frame, telemetry, patch, places, center_cov, reason, clock)

    def _patch(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Patch | Reason:
        """The frame as a patch of ground with some structure in it."""
        if self._is_backwards(frame.time_ns):
            return Reason.TIME_BACKWARDS
        if isinstance(frame, LostFrame):
            return frame.reason
        if telemetry is None:
            return Reason.TELEMETRY_MISSING
        card, gsd_m = self._model.card, self._pack.manifest.gsd_m
        patch = patch_from_frame(frame.image, self._camera, telemetry, card.input_px, gsd_m)
        if isinstance(patch, Patch) and template_from_patch(patch, gsd_m) is None:
            return Reason.BLANK
        return patch

    def _is_backwards(self, time_ns: int) -> bool:
        """Whether a frame is older than the one before; a clock that was set back starts anew."""
        if self._last_time_ns is None:  # the flight begins, whatever its first frame is good for
            self._belief = replace(self._belief, time_ns=time_ns)
        backwards = self._last_time_ns is not None and time_ns < self._last_time_ns
        self._backwards = self._backwards + 1 if backwards else 0
        if backwards and self._backwards <= LOST_FRAMES and not self._settings.independent:
            return True
        if backwards:
            self._start_anew(time_ns)
            self._track = replace(self._track, fixed=None)  # its age is known on no clock now
        self._last_time_ns = time_ns
        return False

    def _start_anew(self, time_ns: int) -> None:
        """Forget the position: it may be anywhere on the map by now."""
        self._belief = uniform_belief(self._pack.grid, self._pack.valid, time_ns)
        self._track = replace(self._track, seen=None, streak=0, rejects=0)

    def _moved(self, time_ns: int) -> Belief:
        """What is believed before this frame is looked at."""
        if self._settings.independent:
            return uniform_belief(self._pack.grid, self._pack.valid, time_ns)
        reach_m = (time_ns - self._belief.time_ns) * 1e-9 * self._settings.max_speed_mps
        return predicted(self._belief, self._pack.valid, reach_m, time_ns)

    def _places(self, belief: Belief, window: tuple[slice, slice], scores: np.ndarray) -> Weighed:
        """The belief's leaders as hypotheses."""
        step_m = self._pack.grid.step_m
        found = leaders(belief, COUNT, SEPARATION_STEPS * step_m)
        top, left = window[0].start, window[1].start
        of_tile = [float(scores[place.row - top, place.column - left]) for place in found]
        return unrefined(found, of_tile, UNREFINED_STD_STEPS * step_m)

    def _judge(
        self, time_ns: int, belief: Belief, places: Weighed, center_cov: Covariance
    ) -> Reason | None:
        """Take the frame into belief and track; after too many rejects start anew."""
        leader = places.hypotheses[0]
        if self._settings.independent:  # nothing confirms it: its covariance speaks for itself
            return None if leader.weight >= STAND_OUT else Reason.AMBIGUOUS
        std_m = float(np.sqrt(np.trace(center_cov) / 2))
        sight = Sight(
            time_ns, leader.east_m, leader.north_m, std_m, leader.weight, places.unexplained
        )
        self._belief = absorbed(belief, places)
        self._track, reason = followed(self._track, sight, self._settings.max_speed_mps)
        if self._track.rejects >= LOST_FRAMES:
            self._start_anew(time_ns)
        return reason

    def _fix(
        self, frame: Frame | LostFrame, telemetry: Telemetry, patch: Patch, places: Weighed,
        center_cov: Covariance, reason: Reason | None, clock: StageClock,
    ) -> Fix:  # fmt: skip
        """The leader as a fix, where the track allows a position."""
        leader = places.hypotheses[0]
        fix = self._without_position(frame, reason, clock)
        fix = replace(fix, score=leader.score, margin=margin(places.hypotheses))
        if not (self._settings.independent or self._track.status in FOLLOWED):
            return fix
        east, north = patch.drone_from_center_en_m
        lat, lon = self._pack.frame.wgs84_from_en(leader.east_m + east, leader.north_m + north)
        center_lat, center_lon = self._pack.frame.wgs84_from_en(leader.east_m, leader.north_m)
        return replace(
            fix,
            lat_deg=float(lat),
            lon_deg=float(lon),
            cov_en_m2=drone_covariance(
                center_cov, telemetry.height_agl_m, self._settings.tilt_std_deg
            ),
            center_lat_deg=float(center_lat),
            center_lon_deg=float(center_lon),
            center_cov_en_m2=center_cov,
            latency_ms=clock.total_ms,
        )

    def _without_position(
        self, frame: Frame | LostFrame, reason: Reason | Patch | None, clock: StageClock
    ) -> Fix:
        """What is published where there is no position, and the ground of every fix."""
        status, age_ms = self._track.status, self._track.match_age_ms(frame.time_ns)
        if self._settings.independent:
            status, age_ms = (Status.TRACKING if reason is None else Status.DEGRADED), None
        self._sequence += 1
        return Fix(
            frame_id=frame.frame_id,
            time_ns=frame.time_ns,
            sequence=self._sequence,
            status=status,
            reason=reason if isinstance(reason, Reason) else None,
            model_id=self._model.card.model_id,
            pack_id=self._pack.pack_id,
            match_age_ms=age_ms,
            reset_counter=self._track.jumps,
            latency_ms=clock.total_ms,
            stages_ms=clock.stages_ms,
        )

    def _starting_belief(self) -> Belief:
        """Uniform over the pack, or over the prior's disc."""
        prior = self._settings.prior
        if prior is not None and self._settings.independent:
            raise InputError("frames that are localised alone have no use for a prior")
        if prior is None:
            return uniform_belief(self._pack.grid, self._pack.valid, 0)
        east, north = self._pack.frame.en_from_wgs84(prior.lat_deg, prior.lon_deg)
        center = (float(east), float(north))
        belief = disc_belief(self._pack.grid, self._pack.valid, center, prior.radius_m, 0)
        if belief is None:
            raise InputError(
                f"the prior {prior.lat_deg}, {prior.lon_deg} +- {prior.radius_m} m lies where "
                "the pack has no tiles; `skyfix map info` shows what the pack covers"
            )
        return belief
