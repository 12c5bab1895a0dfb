"""The whole walk over a map with structure everywhere, with a real model and planted positions."""

import math
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest

from skyfix.runtime.encoder import Model
from skyfix.runtime.errors import InputError, PackModelError
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.localizer import Localizer, LocalizerSettings, Prior
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.simulator import Pose, center_from_pose, render
from skyfix.runtime.types import Fix, Frame, LostFrame, Reason, Status, Telemetry

CAMERA = Camera(160, 120, np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]]), np.zeros(0))
HEIGHT_M = 50.0
SECOND_NS = 1_000_000_000


def seen_from(town: Raster, pose: Pose) -> Frame:
    picture = np.ascontiguousarray(render(town, CAMERA, pose)[..., ::-1])
    return Frame(f"{pose.time_ns}", pose.time_ns, picture)


def told(pose: Pose) -> Telemetry:
    return Telemetry(pose.time_ns, pose.yaw_deg, pose.pitch_deg, pose.roll_deg, pose.height_m)


def as_accurate(pack: TilePack, accuracy_m: float) -> TilePack:
    imagery = msgspec.structs.replace(pack.manifest.imagery, accuracy_m=accuracy_m)
    return replace(pack, manifest=msgspec.structs.replace(pack.manifest, imagery=imagery))


def track(count: int = 8) -> list[Pose]:
    return [
        Pose(second * SECOND_NS, -50.0 + 12 * second, 30.0 - 5 * second, HEIGHT_M, 110.0)
        for second in range(count)
    ]


def error_m(pack: TilePack, fix: Fix, east_m: float, north_m: float, *, center: bool) -> float:
    lat, lon = (fix.center_lat_deg, fix.center_lon_deg) if center else (fix.lat_deg, fix.lon_deg)
    assert lat is not None
    assert lon is not None
    east, north = pack.frame.en_from_wgs84(lat, lon)
    return float(np.hypot(east - east_m, north - north_m))


@pytest.mark.parametrize("refine", [True, False])
def test_a_flight_is_found_and_followed(
    pack: TilePack, tiny_model: Model, town: Raster, refine: bool
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(refine=refine))
    fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in track()]
    published = [(fix, pose) for fix, pose in zip(fixes, track(), strict=True) if fix.lat_deg]
    assert len(published) >= 6
    assert [fix.sequence for fix in fixes] == list(range(1, 9))
    limit_m = 1.5 if refine else 4.0
    for fix, pose in published:
        assert error_m(pack, fix, pose.east_m, pose.north_m, center=True) < limit_m


def test_the_drone_lies_behind_the_images_centre_when_the_camera_looks_ahead(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    pose = replace(track(1)[0], pitch_deg=-70.0, yaw_deg=35.0)
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(independent=True))
    fix = localizer.step(seen_from(town, pose), told(pose))
    assert error_m(pack, fix, pose.east_m, pose.north_m, center=False) < 2.0
    assert error_m(pack, fix, *center_from_pose(CAMERA, pose), center=True) < 2.0


def test_a_fix_says_how_it_came_about(pack: TilePack, tiny_model: Model, town: Raster) -> None:
    pose = track(1)[0]
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(independent=True))
    fix = localizer.step(seen_from(town, pose), told(pose))
    assert (fix.model_id, fix.pack_id) == (tiny_model.card.model_id, pack.pack_id)
    assert set(fix.stages_ms) == {"ortho", "encode", "search", "belief", "refine", "integrity"}
    assert fix.latency_ms >= 0.9 * sum(fix.stages_ms.values())
    assert fix.score is not None
    assert fix.score > 0.9
    assert fix.cov_en_m2 is not None
    assert fix.center_cov_en_m2 is not None
    assert np.linalg.eigvalsh(fix.cov_en_m2 - fix.center_cov_en_m2).min() > 0


GOOD = Telemetry(0, 110.0, -90.0, 0.0, HEIGHT_M)
BAD_TELEMETRY = {
    Reason.TELEMETRY_INVALID: replace(GOOD, yaw_deg=float("nan")),
    Reason.YAW_RANGE: replace(GOOD, yaw_deg=400.0),
    Reason.HEIGHT_RANGE: replace(GOOD, height_agl_m=0.0),
    Reason.ATTITUDE_RANGE: replace(GOOD, pitch_deg=-100.0),
    Reason.TILT: replace(GOOD, pitch_deg=-20.0),
    Reason.FOOTPRINT: replace(GOOD, height_agl_m=5.0),
}


@pytest.mark.parametrize("reason", BAD_TELEMETRY)
def test_bad_telemetry_is_a_reason_and_the_next_frame_works(
    pack: TilePack, tiny_model: Model, town: Raster, reason: Reason
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(independent=True))
    pose, later = track(2)
    fix = localizer.step(seen_from(town, pose), BAD_TELEMETRY[reason])
    assert (fix.reason, fix.lat_deg, fix.status) == (reason, None, Status.DEGRADED)
    assert localizer.step(seen_from(town, later), told(later)).lat_deg is not None


def test_bad_frames_are_reasons_and_the_track_goes_on(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    poses = track(8)
    for pose in poses[:4]:
        before = localizer.step(seen_from(town, pose), told(pose))
    assert before.status is Status.TRACKING
    at, frame = poses[4], seen_from(town, poses[4])
    cases: list[tuple[Frame | LostFrame, Telemetry | None, Reason]] = [
        (LostFrame("x", at.time_ns, Reason.FRAME_UNREADABLE), told(at), Reason.FRAME_UNREADABLE),
        (replace(frame, image=frame.image[:-2]), told(at), Reason.FRAME_SIZE),
        (frame, None, Reason.TELEMETRY_MISSING),
        (replace(frame, time_ns=0), told(at), Reason.TIME_BACKWARDS),
        (replace(frame, image=np.full_like(frame.image, 90)), told(at), Reason.BLANK),
    ]
    for bad_frame, telemetry, reason in cases:
        fix = localizer.step(bad_frame, telemetry)
        assert (fix.reason, fix.status, fix.lat_deg) == (reason, Status.DEGRADED, None)
    after = localizer.step(seen_from(town, poses[5]), told(poses[5]))
    assert after.status is Status.TRACKING
    assert error_m(pack, after, poses[5].east_m, poses[5].north_m, center=True) < 1.5


def test_a_picture_of_elsewhere_is_no_fix(pack: TilePack, tiny_model: Model, town: Raster) -> None:
    mirrored = replace(town, image=np.ascontiguousarray(town.image[::-1, ::-1]))
    localizer = Localizer(pack, tiny_model, CAMERA)
    fixes = [localizer.step(seen_from(mirrored, pose), told(pose)) for pose in track()]
    # the mirrored town shows its own places at the mirrored positions, turned by 180 degrees
    assert all(fix.lat_deg is None for fix in fixes)
    assert {fix.status for fix in fixes} == {Status.SEARCHING}


def test_a_drone_carried_elsewhere_is_lost_and_found_again(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    steady = LocalizerSettings(max_speed_mps=15.0, tilt_std_deg=1.0)
    localizer = Localizer(pack, tiny_model, CAMERA, steady)
    for pose in track(4):
        localizer.step(seen_from(town, pose), told(pose))
    # further than it can have flown in all of that time
    far = [replace(pose, east_m=pose.east_m + 15, north_m=-70.0) for pose in track(12)[4:]]
    fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in far]
    found = [fix for fix in fixes if fix.status is Status.TRACKING]
    assert fixes[0].status is not Status.TRACKING
    assert found
    assert fixes[-1].reset_counter >= 1
    assert error_m(pack, fixes[-1], far[-1].east_m, far[-1].north_m, center=True) < 1.5


def test_a_prior_narrows_the_search_and_one_off_the_map_is_refused(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    pose = track(1)[0]
    lat, lon = (float(x) for x in pack.frame.wgs84_from_en(pose.east_m + 10, pose.north_m))
    near = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(prior=Prior(lat, lon, 40.0)))
    for pose in track(3):
        fix = near.step(seen_from(town, pose), told(pose))
    assert fix.status is Status.TRACKING
    assert error_m(pack, fix, pose.east_m, pose.north_m, center=True) < 1.5
    with pytest.raises(InputError, match="where the pack has no tiles"):
        Localizer(pack, tiny_model, CAMERA, LocalizerSettings(prior=Prior(lat + 1, lon, 40.0)))


def test_a_prior_and_frames_that_are_localised_alone_exclude_each_other(
    pack: TilePack, tiny_model: Model
) -> None:
    both = LocalizerSettings(prior=Prior(47.37, 8.54, 40.0), independent=True)
    with pytest.raises(InputError, match="no use for a prior"):
        Localizer(pack, tiny_model, CAMERA, both)


def test_a_drone_that_leaves_its_prior_is_found_elsewhere(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    lat, lon = (float(x) for x in pack.frame.wgs84_from_en(80.0, -80.0))
    settings = LocalizerSettings(prior=Prior(lat, lon, 4.0), max_speed_mps=1.0)
    localizer = Localizer(pack, tiny_model, CAMERA, settings)
    slow = [replace(pose, east_m=-60.0 + i, north_m=40.0) for i, pose in enumerate(track(12))]
    fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in slow]
    assert fixes[0].lat_deg is None
    assert fixes[-1].status is Status.TRACKING
    assert error_m(pack, fixes[-1], slow[-1].east_m, 40.0, center=True) < 1.5


def test_a_clock_that_was_set_back_starts_anew_after_three_frames(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    late = [replace(pose, time_ns=pose.time_ns + 10**15) for pose in track(3)]
    fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in [*late, *track(8)]]
    assert [fix.reason for fix in fixes[3:6]] == [Reason.TIME_BACKWARDS] * 3
    assert fixes[2].match_age_ms == 0
    assert fixes[6].match_age_ms is None  # not "just now", for a match on the clock before
    assert fixes[-1].status is Status.TRACKING


def test_the_pack_of_another_model_is_refused(pack: TilePack, other_model: Model) -> None:
    with pytest.raises(PackModelError, match="Build the pack again"):
        Localizer(pack, other_model, CAMERA)


def test_flying_the_same_frames_twice_gives_the_same_fixes(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    flights = []
    for _ in range(2):
        localizer = Localizer(pack, tiny_model, CAMERA)
        fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in track()]
        flights.append([(fix.lat_deg, fix.lon_deg, fix.score, fix.margin) for fix in fixes])
    assert flights[0] == flights[1]


@pytest.mark.parametrize(
    ("turn_deg", "height_factor", "yaw_std_deg"),
    [(17.0, 0.85, 11.5), (-19.0, 1.18, 11.5), (140.0, 1.1, np.inf), (-75.0, 0.9, np.inf)],
)
def test_a_wrong_heading_and_height_within_what_is_stated_are_put_right(
    pack: TilePack, tiny_model: Model, town: Raster,
    turn_deg: float, height_factor: float, yaw_std_deg: float,
) -> None:  # fmt: skip
    localizer = Localizer(pack, tiny_model, CAMERA)
    for pose in track(4):
        wrong = replace(
            told(pose), yaw_deg=pose.yaw_deg - turn_deg, height_agl_m=HEIGHT_M * height_factor,
            yaw_std_deg=yaw_std_deg, height_std=0.115,
        )  # fmt: skip
        fix = localizer.step(seen_from(town, pose), wrong)
    assert fix.status is Status.TRACKING
    assert error_m(pack, fix, pose.east_m, pose.north_m, center=True) < 2.5
    assert fix.heading_deg == pytest.approx(pose.yaw_deg, abs=2.5)
    assert fix.height_agl_m == pytest.approx(HEIGHT_M, rel=0.04)
    assert fix.heading_std_deg is not None
    assert fix.height_agl_std_m is not None


def test_a_tilted_cameras_drone_is_where_the_right_heading_puts_it(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    pose = replace(track(1)[0], pitch_deg=-72.0, yaw_deg=35.0)
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(independent=True))
    wrong = replace(told(pose), yaw_deg=35.0 + 15.0, yaw_std_deg=11.5)
    fix = localizer.step(seen_from(town, pose), wrong)
    assert error_m(pack, fix, pose.east_m, pose.north_m, center=False) < 3.0


def test_telemetry_of_another_moment_is_stale(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    pose = track(1)[0]
    late = replace(told(pose), time_ns=pose.time_ns + SECOND_NS)
    assert localizer.step(seen_from(town, pose), late).reason is Reason.STALE_TELEMETRY


def test_a_drone_that_flies_off_the_map_is_told_so(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    _, _, east_m, _ = pack.bounds_m
    rng = np.random.default_rng(0)
    reasons = []
    for second in range(12):
        pose = Pose(second * SECOND_NS, east_m - 110 + 15 * second, 10.0, HEIGHT_M, 90.0)
        frame = seen_from(town, pose)
        if pose.east_m > east_m - 25:  # ground that no map holds
            noise = rng.integers(0, 255, (15, 20, 3), dtype=np.uint8)
            frame = replace(frame, image=np.repeat(np.repeat(noise, 8, 0), 8, 1))
        fix = localizer.step(frame, told(pose))
        reasons.append((fix.status, fix.reason))
    assert any(status is Status.TRACKING for status, _ in reasons[:6])
    assert Reason.OUTSIDE_MAP in [reason for _, reason in reasons[6:]]
    assert Status.TRACKING not in [status for status, _ in reasons[8:]]


def test_a_blurred_frame_that_fits_nowhere_says_so(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    pose = track(1)[0]
    frame = seen_from(town, pose)
    smeared = cv2.GaussianBlur(frame.image, (0, 0), 12).astype(np.uint8)
    assert localizer.step(replace(frame, image=smeared), told(pose)).reason is Reason.BLUR


def test_a_blank_frame_uses_up_nothing_of_the_next_ones_weight(
    pack: TilePack, tiny_model: Model, town: Raster, fresh: list[float]
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    frame = seen_from(town, track(1)[0])
    blank = replace(frame, image=np.full_like(frame.image, 90))
    assert localizer.step(blank, GOOD).reason is Reason.BLANK
    localizer.step(frame, GOOD)
    assert fresh == [math.inf]


def test_a_place_that_stands_out_near_the_edge_is_not_called_outside(
    pack: TilePack, tiny_model: Model, town: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Localizer, "_leaves_the_map", lambda *_: True)
    localizer = Localizer(pack, tiny_model, CAMERA)
    pose = track(1)[0]
    assert localizer.step(seen_from(town, pose), told(pose)).reason is Reason.UNCONFIRMED


def test_without_refinement_a_prior_alone_confirms_nothing(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    """The fault: the belief's own odds, counted anew with every frame; the prior is 80 m off."""
    pose = track(1)[0]
    lat, lon = pack.frame.wgs84_from_en(pose.east_m + 64, pose.north_m + 48)
    prior = Prior(float(lat), float(lon), radius_m=1.0)
    settings = LocalizerSettings(refine=False, prior=prior)
    localizer = Localizer(pack, tiny_model, CAMERA, settings)
    for second in range(5):
        hovering = replace(pose, time_ns=second * 1_000_000)
        fix = localizer.step(seen_from(town, hovering), told(hovering))
        assert (fix.lat_deg, fix.reason) == (None, Reason.UNCONFIRMED)


def test_a_model_whose_card_trusts_no_correlation_finds_no_place(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    pose = track(1)[0]
    doubtful = Likelihood(offset=80.0)
    card = msgspec.structs.replace(tiny_model.card, likelihood=doubtful)
    model = replace(tiny_model, card=card)
    alone = LocalizerSettings(independent=True)
    fixes = [
        Localizer(pack, one, CAMERA, alone).step(seen_from(town, pose), told(pose))
        for one in (tiny_model, model)
    ]
    assert [fix.reason for fix in fixes] == [None, Reason.AMBIGUOUS]


@pytest.mark.parametrize(("refine", "remembered"), [(True, False), (False, True)])
def test_what_descriptors_say_of_a_frame_that_fits_nowhere_is_forgotten(
    pack: TilePack, tiny_model: Model, town: Raster, refine: bool, remembered: bool
) -> None:
    """The fault: look-alikes that no correlation confirms, believed more with every frame."""
    doubtful = msgspec.structs.replace(tiny_model.card, likelihood=Likelihood(offset=80.0))
    model = replace(tiny_model, card=doubtful)
    localizer = Localizer(pack, model, CAMERA, LocalizerSettings(refine=refine))
    pose = track(1)[0]
    for second in range(2):
        hovering = replace(pose, time_ns=second * 1_000_000)
        localizer.step(seen_from(town, hovering), told(hovering))
    mass = np.exp(localizer._belief.log_p)
    assert bool(mass.max() > 3 / np.count_nonzero(pack.valid)) == remembered


def test_every_fix_is_as_uncertain_as_its_map_says(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    spread = []
    for accuracy_m in (0.0, 5.0):
        localizer = Localizer(as_accurate(pack, accuracy_m), tiny_model, CAMERA)
        fixes = [localizer.step(seen_from(town, pose), told(pose)) for pose in track(4)]
        assert fixes[-1].center_cov_en_m2 is not None
        assert fixes[-1].cov_en_m2 is not None
        spread.append((fixes[-1].center_cov_en_m2, fixes[-1].cov_en_m2))
    for exact, placed in zip(*spread, strict=True):
        # hardly more: where a flight awaits itself is as uncertain, too
        assert placed - exact == pytest.approx(25.0 * np.eye(2), abs=0.1)
