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
from .fuse.hypotheses import COUNT, SEPARATION_STEPS, Weighed, absorbed, refined, unrefined
from .fuse.integrity import (
    STAND_OUT,
    UNREFINED_STD_STEPS,
    center_covariance,
    drone_covariance,
    judged,
    margin,
    spread_of,
)
from .fuse.refine import template_from_patch
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
        self._start = self._starting_belief()
        self._belief = self._start
        self._status = Status.SEARCHING
        self._last_time_ns: int | None = None
        self._last_match_ns: int | None = None
        self._sequence = self._resets = self._rejects = self._streak = 0

    def step(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        """The fix for one frame; never raises for what a frame or its telemetry holds."""
        clock = StageClock()
        with clock.stage("ortho"):
            patch = self._patch(frame, telemetry)
        if isinstance(patch, Reason) or telemetry is None:
            return self._no_position(frame, patch, clock)
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
                )  # fmt: skip
        with clock.stage("integrity"):
            reason = self._judge(frame.time_ns, belief, places)
            spread_m = spread_of(window, self._pack.grid.step_m)
            return self._fix(frame, telemetry, patch, places, spread_m, reason, clock)

    def _patch(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Patch | Reason:
        """The frame as a patch of ground with some structure in it."""
        if isinstance(frame, LostFrame):
            return frame.reason
        if self._last_time_ns is not None and frame.time_ns < self._last_time_ns:
            return Reason.TIME_BACKWARDS
        if telemetry is None:
            return Reason.TELEMETRY_MISSING
        card, gsd_m = self._model.card, self._pack.manifest.gsd_m
        patch = patch_from_frame(frame.image, self._camera, telemetry, card.input_px, gsd_m)
        if isinstance(patch, Patch) and template_from_patch(patch, gsd_m) is None:
            return Reason.BLANK
        return patch

    def _moved(self, time_ns: int) -> Belief:
        """What is believed before this frame is looked at."""
        if self._settings.independent or self._last_time_ns is None:
            return self._start
        reach_m = (time_ns - self._belief.time_ns) * 1e-9 * self._settings.max_speed_mps
        return predicted(self._belief, self._pack.valid, reach_m, time_ns)

    def _places(self, belief: Belief, window: tuple[slice, slice], scores: np.ndarray) -> Weighed:
        """The belief's leaders as hypotheses."""
        step_m = self._pack.grid.step_m
        found = leaders(belief, COUNT, SEPARATION_STEPS * step_m)
        top, left = window[0].start, window[1].start
        of_tile = [float(scores[place.row - top, place.column - left]) for place in found]
        return unrefined(found, of_tile, UNREFINED_STD_STEPS * step_m)

    def _judge(self, time_ns: int, belief: Belief, places: Weighed) -> Reason | None:
        """Take the frame into the belief and the status; after too many rejects start anew."""
        weight = places.hypotheses[0].weight
        self._streak = self._streak + 1 if weight >= STAND_OUT else 0
        # alone, a frame has nothing to be confirmed by, and says so by its covariance
        before = Status.TRACKING if self._settings.independent else self._status
        self._status, reason = judged(before, weight, self._streak)
        self._belief = replace(absorbed(belief, places), time_ns=time_ns)
        self._last_time_ns = time_ns
        if self._status is Status.TRACKING:
            self._last_match_ns = time_ns
        self._rejects = self._rejects + 1 if self._status is Status.LOST else 0
        if self._rejects >= LOST_FRAMES and not self._settings.independent:
            self._belief = replace(self._start, time_ns=time_ns)
            self._rejects = 0
            self._resets += 1
        return reason

    def _fix(
        self, frame: Frame | LostFrame, telemetry: Telemetry, patch: Patch, places: Weighed,
        spread_m: float, reason: Reason | None, clock: StageClock,
    ) -> Fix:  # fmt: skip
        """The leader as a fix, where the status allows a position."""
        leader = places.hypotheses[0]
        published = self._settings.independent or self._status in (
            Status.TRACKING,
            Status.DEGRADED,
        )
        fix = self._no_position(frame, reason, clock)
        fix = replace(fix, score=leader.score, margin=margin(places.hypotheses))
        if not published:
            return fix
        center_cov = center_covariance(places.hypotheses, places.unexplained, spread_m)
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

    def _no_position(
        self, frame: Frame | LostFrame, reason: Reason | Patch | None, clock: StageClock
    ) -> Fix:
        """What is published where there is no position, and the ground of every fix."""
        status = self._status
        if self._settings.independent:
            status = Status.TRACKING if reason is None else Status.DEGRADED
        elif isinstance(reason, Reason) and status is Status.TRACKING:
            status = Status.DEGRADED
        match_age_ms = None
        if self._last_match_ns is not None:
            match_age_ms = (frame.time_ns - self._last_match_ns) * 1e-6
        self._sequence += 1
        return Fix(
            frame_id=frame.frame_id,
            time_ns=frame.time_ns,
            sequence=self._sequence,
            status=status,
            reason=reason if isinstance(reason, Reason) else None,
            model_id=self._model.card.model_id,
            pack_id=self._pack.pack_id,
            match_age_ms=match_age_ms,
            reset_counter=self._resets,
            latency_ms=clock.total_ms,
            stages_ms=clock.stages_ms,
        )

    def _starting_belief(self) -> Belief:
        """Uniform over the pack, or over the prior's disc."""
        prior = self._settings.prior
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
