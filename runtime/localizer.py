"""Camera frame -> fix: the whole method on one screen, in `Localizer.step`."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .blas import one_blas_thread
from .encoder import Model
from .errors import InputError, PackModelError
from .fuse.attitude import Tolerance, Variant, attitude_from_telemetry, variants_of
from .fuse.belief import (
    Belief,
    disc_belief,
    doubted,
    leaders_to_look_at,
    uniform_belief,
    updated,
    window_of,
)
from .fuse.crowd import LASTING, NO_CROWD, Crowd
from .fuse.hypotheses import (
    OFF_MAP,
    SEPARATION_STEPS,
    Weighed,
    absorbed,
    evidence_added,
    nowhere_of,
    off_map_after,
    places_from_leaders,
    unplaced,
)
from .fuse.integrity import (
    UNREFINED_STD_STEPS,
    Covariance,
    center_covariance,
    margin,
    spread_of,
)
from .fuse.position import position_from_places
from .fuse.query import Query, Shown
from .fuse.reckoning import Reckoning, temper_of
from .fuse.refine import lean_of, refined, shows_structure
from .fuse.scales import scales_of_pack
from .fuse.tilt import Seen, Tilt, tilt_of_camera, tilt_of_picture, unknown_tilt, widened
from .fuse.track import FOLLOWED, STAND_OUT, Sight, Track, followed, has_strayed, unseen
from .maps.pack import TilePack
from .maps.search import Scores, best_scores
from .sense.camera import Camera
from .sense.ortho import Ground, ground_from_frame
from .sense.sharpness import is_blurred
from .stages import StageClock
from .types import Fix, Frame, LostFrame, Patch, Reason, Status, Telemetry

LOST_FRAMES = 3  # in a row without a consistent place, after which the search starts anew
MAX_TELEMETRY_AGE_NS = 500_000_000  # attitude of another moment is that of another view


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
    # of the camera's true axis around what the telemetry says: most of it stays along a flight, 0.4
    # of the deviation may come and go from frame to frame (tilt.py)
    tilt_std_deg: float = 5.0


@dataclass(frozen=True)
class Sought:
    """A frame ready to be searched for: its ground, and patches of all its variants."""

    query: Query
    variants: list[Variant]
    patches: list[Patch]
    temper: float  # of its evidence: below 1 where the last frames have seen much of this ground


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
        self._scales = scales_of_pack(pack)
        if self._settings.refine and self._settings.prior is None:  # sought everywhere at first
            view = pack.manifest.overview
            self._scales.rough.make(view.rows * view.gsd_m, view.columns * view.gsd_m)
        self._tolerance = Tolerance(model.card.heading_deg, model.card.scale)
        self._belief = self._starting_belief()
        self._track = Track()
        self._off_map = OFF_MAP  # probability that the flight is not over the map
        self._crowd = NO_CROWD  # that a search has had to tell its place from
        self._reckoning = Reckoning(
            camera, self._settings.max_speed_mps, pack.manifest.tile_m,
            unknown_tilt(self._settings.tilt_std_deg),
        )  # fmt: skip
        self._last_time_ns: int | None = None  # of the last frame, usable or not
        self._backwards = self._sequence = 0

    @one_blas_thread()
    def step(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        """The fix for one frame; never raises for what a frame or its telemetry holds."""
        clock = StageClock()
        with clock.stage("ortho"):
            sought = self._sought(frame, telemetry)
        if isinstance(sought, Reason) or telemetry is None:
            self._track = unseen(self._track, frame.time_ns)
            return self._without_position(frame, sought, clock)
        with clock.stage("encode"):
            queries = self._model.query.describe(sought.patches)
        with clock.stage("search"):
            prior = self._moved()
            window = window_of(prior)
            scores, which = best_scores(self._pack, queries, *window)
        with clock.stage("belief"):
            belief = updated(prior, window, scores, self._model.card.likelihood)
            places = self._places(belief, window, scores, which, sought)
        with clock.stage("refine"):
            places = self._refined(places, sought, prior, belief)
            places, tilt, seen = self._leaning(places, sought)
        with clock.stage("integrity"):
            spread_m = spread_of(window, self._pack.grid.step_m)
            map_std_m = self._pack.manifest.imagery.accuracy_m
            center_cov = center_covariance(
                places.hypotheses, places.unexplained, spread_m, map_std_m
            )
            reason = self._judge(frame.time_ns, telemetry, prior, belief, places, seen)
            if self._fits_nowhere(reason) and self._is_blurred(sought):
                reason = Reason.BLUR
            return self._fix(frame, telemetry, sought, places, tilt, center_cov, reason, clock)

    def _sought(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Sought | Reason:
        """The frame on the ground, in all the ways it may lie there."""
        fault = self._fault(frame, telemetry)
        if fault is not None or telemetry is None or isinstance(frame, LostFrame):
            return fault or Reason.TELEMETRY_MISSING
        gsd_m, tile_m = self._pack.manifest.gsd_m, self._pack.manifest.tile_m
        ground = ground_from_frame(frame.image, self._camera, telemetry, gsd_m)
        if isinstance(ground, Reason):
            return ground
        query = Query(Shown(ground.grey(), tile_m), attitude_from_telemetry(telemetry))
        if not self._settings.independent:
            attitude = self._reckoning.attitude(frame.image, telemetry)
            query = replace(query, attitude=attitude)
        attitude = query.attitude
        seen = {
            variant: patch
            for variant in variants_of(attitude, self._tolerance)
            if isinstance(patch := self._patch(ground, variant), Patch)
        }
        if not seen:
            return Reason.FOOTPRINT
        if not shows_structure(query, list(seen), self._scales):
            return Reason.BLANK
        temper = 1.0
        if not self._settings.independent:  # only now: a frame that shows nothing uses up nothing
            # what is not confirmed yet must not draw the frame that could confirm it
            awaited = self._reckoning.awaited if self._track.status in FOLLOWED else None
            fresh_tiles = self._reckoning.take_in()
            self._crowd = self._crowd.after(fresh_tiles)
            query = replace(query, crowd=self._crowd, awaited=awaited)
            temper = temper_of(fresh_tiles)
        return Sought(query, list(seen), list(seen.values()), temper)

    def _fault(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Reason | None:
        """What makes a frame unusable before its picture is looked at."""
        if self._is_backwards(frame.time_ns):
            return Reason.TIME_BACKWARDS
        if isinstance(frame, LostFrame):
            return frame.reason
        if telemetry is None:
            return Reason.TELEMETRY_MISSING
        if abs(telemetry.time_ns - frame.time_ns) > MAX_TELEMETRY_AGE_NS:
            return Reason.STALE_TELEMETRY
        return None

    def _patch(self, ground: Ground, variant: Variant) -> Patch | Reason:
        return ground.patch(
            self._model.card.input_px, self._pack.manifest.gsd_m,
            variant.turn_deg, math.exp(variant.log_scale),
        )  # fmt: skip

    def _is_blurred(self, sought: Sought) -> bool:
        manifest = self._pack.manifest
        return is_blurred(sought.query.shown.ground, manifest.input_px, manifest.gsd_m)

    def _is_backwards(self, time_ns: int) -> bool:
        """Whether a frame is older than the one before; a clock that was set back starts anew."""
        backwards = self._last_time_ns is not None and time_ns < self._last_time_ns
        self._backwards = self._backwards + 1 if backwards else 0
        if backwards and self._backwards <= LOST_FRAMES and not self._settings.independent:
            return True
        if backwards:
            self._belief = uniform_belief(self._pack.grid, self._pack.valid)
            self._search_anew()
            self._reckoning.forget()
            self._crowd = NO_CROWD
            self._track = replace(self._track, fixed=None)  # its age is known on no clock now
        self._last_time_ns = time_ns
        return False

    def _search_anew(self) -> None:
        """The drone may be anywhere on the map by now."""
        self._track = replace(self._track, seen=None, streak=0, rejects=0)
        self._off_map = OFF_MAP
        self._reckoning.doubt()

    def _moved(self) -> Belief:
        """What is believed before this frame is looked at."""
        if self._settings.independent:
            return uniform_belief(self._pack.grid, self._pack.valid)
        return self._reckoning.moved(self._belief, self._pack.valid)

    def _places(
        self, belief: Belief, window: tuple[slice, slice], scores: Scores,
        which: NDArray[np.intp], sought: Sought,
    ) -> Weighed:  # fmt: skip
        """The belief's leaders as hypotheses, each with the variant that it looks most like."""
        step_m = self._pack.grid.step_m
        found = leaders_to_look_at(belief, SEPARATION_STEPS * step_m)
        at = [(place.row - window[0].start, place.column - window[1].start) for place in found]
        return places_from_leaders(
            found, [float(scores[cell]) for cell in at],
            [sought.variants[which[cell]] for cell in at], UNREFINED_STD_STEPS * step_m,
        )  # fmt: skip

    def _refined(self, places: Weighed, sought: Sought, prior: Belief, belief: Belief) -> Weighed:
        """The places where the frame's ground fits the map best, where it shows any structure."""
        if self._settings.refine:
            found = refined(
                places.hypotheses, belief, nowhere_of(self._off_map), sought.query, self._scales,
                self._model.card.likelihood,
            )  # fmt: skip
            places = unplaced(places) if found is None else found
        else:
            added = evidence_added(prior, belief, places.hypotheses[0])
            places = replace(places, evidence=added)
        return replace(places, evidence=sought.temper * places.evidence)

    def _leaning(self, places: Weighed, sought: Sought) -> tuple[Weighed, Tilt, list[Seen]]:
        """The leader as sure as its picture's tilt leaves it; the camera's, and what shows it."""
        in_motion = self._reckoning.tilt_in_motion
        seen = [] if in_motion is None else [in_motion]
        leader, *rivals = places.hypotheses
        lean = None
        if self._settings.refine:
            lean = lean_of(leader, sought.query, self._scales)
        if lean is not None:
            seen.append(lean.seen)
        tilt = tilt_of_picture(self._reckoning.tilt, seen)
        if lean is not None:
            leader = widened(leader, lean.pull, tilt)
        return replace(places, hypotheses=[leader, *rivals]), tilt_of_camera(tilt), seen

    def _judge(
        self, time_ns: int, telemetry: Telemetry, prior: Belief, belief: Belief, places: Weighed,
        seen: list[Seen],
    ) -> Reason | None:  # fmt: skip
        """Take the frame into belief and track; after too many rejects start anew."""
        leader = places.hypotheses[0]
        if self._settings.independent:  # nothing confirms it: its covariance speaks for itself
            return None if leader.weight >= STAND_OUT else Reason.AMBIGUOUS
        # the place's own: rivals would let it agree with any other place
        own_std_m = math.sqrt(np.trace(leader.cov_en_m2) / 2)
        map_std_m = self._pack.manifest.imagery.accuracy_m
        place = (leader.east_m, leader.north_m, math.hypot(own_std_m, map_std_m))
        # from frame to frame the image's centre swings beside the drone, whose speed is bounded
        swing_m = telemetry.height_agl_m * math.tan(math.radians(self._settings.tilt_std_deg))
        sight = Sight(
            time_ns, *place[:2], math.hypot(place[2], swing_m), leader.weight,
            places.unexplained, places.evidence, *self._reckoning.strayed(*place), self._off_map,
        )  # fmt: skip
        self._off_map = float(off_map_after(self._off_map, places.unexplained))
        held = self._track.status in FOLLOWED
        self._track, reason = followed(self._track, sight, self._settings.max_speed_mps)
        refused = held and reason is not None and has_strayed(sight)
        # Where a frame fits nowhere, its descriptors say nothing either: across years they lead to
        # the same wrong places again and again (naip of 2012 from 2016: 94 % of lost starts found
        # in a minute, 78 % where they were believed all the same). Without refinement they are all
        # that there is.
        otherwise = prior if self._settings.refine else belief
        self._belief = prior if refused else absorbed(otherwise, places)
        if self._track.seen is sight:
            self._reckoning.led(*place, fixed=reason is None)
        if reason is None:
            self._reckoning.confirm(telemetry, leader, seen)
        elif self._fits_nowhere(reason) and self._leaves_the_map(time_ns):
            reason = Reason.OUTSIDE_MAP
        if self._track.status in FOLLOWED:
            self._crowd = NO_CROWD
        elif places.looked_at >= self._crowd.count:  # else those of a wider look still count
            self._crowd = Crowd(places.rival, places.looked_at, LASTING)
        if self._track.rejects >= LOST_FRAMES:
            self._belief = doubted(self._belief, self._pack.valid)
            self._search_anew()
        return reason

    def _fits_nowhere(self, reason: Reason | None) -> bool:
        """Whether no place stands out, nor is one held that the track knows."""
        held = self._track.status in FOLLOWED and not self._settings.independent
        return reason is Reason.AMBIGUOUS and not held

    def _leaves_the_map(self, time_ns: int) -> bool:
        """Whether a drone that had a position flies on to where the pack has no tile."""
        ahead = self._track.ahead_en_m(time_ns)
        if ahead is None:
            return False
        row, column = (round(index) for index in self._pack.grid.cell_from_en(*ahead))
        valid = self._pack.valid
        inside = 0 <= row < valid.shape[0] and 0 <= column < valid.shape[1]
        return not (inside and valid[row, column])

    def _fix(
        self, frame: Frame | LostFrame, telemetry: Telemetry, sought: Sought, places: Weighed,
        tilt: Tilt, center_cov: Covariance, reason: Reason | None, clock: StageClock,
    ) -> Fix:  # fmt: skip
        """The leader as a fix, where the track allows a position."""
        fix = self._without_position(frame, reason, clock)
        position = position_from_places(
            places, center_cov, sought.query.shown.ground, telemetry, self._pack.frame, tilt
        )
        score = places.hypotheses[0].score  # NaN of a place that no descriptor has chosen
        known = score if math.isfinite(score) else None
        fix = replace(fix, score=known, margin=margin(places.hypotheses))
        if self._settings.independent or self._track.status in FOLLOWED:
            fix = replace(fix, **position)
        return replace(fix, latency_ms=clock.total_ms)

    def _without_position(
        self, frame: Frame | LostFrame, reason: Reason | Sought | None, clock: StageClock
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
            return uniform_belief(self._pack.grid, self._pack.valid)
        east, north = self._pack.frame.en_from_wgs84(prior.lat_deg, prior.lon_deg)
        center = (float(east), float(north))
        belief = disc_belief(self._pack.grid, self._pack.valid, center, prior.radius_m)
        if belief is None:
            raise InputError(
                f"the prior {prior.lat_deg}, {prior.lon_deg} +- {prior.radius_m} m lies where "
                "the pack has no tiles; `skyfix map info` shows what the pack covers"
            )
        return belief
