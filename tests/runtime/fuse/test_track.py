from dataclasses import replace

from skyfix.runtime.fuse.track import (
    ALONE,
    ALONE_EVIDENCE,
    CONFIRMING_EVIDENCE,
    HOLD,
    STALE_S,
    STAND_OUT,
    Sight,
    Track,
    followed,
    unseen,
)
from skyfix.runtime.types import Reason, Status

SPEED_MPS = 20.0
CLEAR, HELD, WEAK = STAND_OUT, HOLD, 0.2


def sight(time_s: float, east_m: float, weight: float = CLEAR) -> Sight:
    return Sight(round(time_s * 1e9), east_m, 0.0, 2.0, weight)


def after(*sights: Sight) -> tuple[Track, Reason | None]:
    track, reason = Track(), None
    for one in sights:
        track, reason = followed(track, one, SPEED_MPS)
    return track, reason


def tracking() -> Track:
    return after(sight(0, 0), sight(1, 10))[0]


def test_one_frame_is_unconfirmed_and_a_second_within_reach_is_a_fix() -> None:
    track, reason = after(sight(0, 0))
    assert (track.status, reason) == (Status.SEARCHING, Reason.UNCONFIRMED)
    track, reason = followed(track, sight(1, 15), SPEED_MPS)
    assert (track.status, reason, track.jumps) == (Status.TRACKING, None, 0)


def test_two_places_out_of_reach_confirm_nothing() -> None:
    track, reason = after(sight(0, 0), sight(1, 500))
    assert (track.status, reason) == (Status.SEARCHING, Reason.UNCONFIRMED)
    assert followed(track, sight(2, 510), SPEED_MPS)[0].status is Status.TRACKING


def test_a_frame_without_a_place_breaks_the_confirmation() -> None:
    track = unseen(after(sight(0, 0))[0], 10**9)
    track, reason = followed(track, sight(2, 5), SPEED_MPS)
    assert (track.status, reason) == (Status.SEARCHING, Reason.UNCONFIRMED)


def test_an_undecided_frame_within_reach_degrades_and_elsewhere_loses() -> None:
    track, reason = followed(tracking(), sight(2, 15, HELD), SPEED_MPS)
    assert (track.status, reason) == (Status.DEGRADED, Reason.AMBIGUOUS)
    assert followed(track, sight(3, 20), SPEED_MPS)[0].status is Status.TRACKING
    assert followed(tracking(), sight(2, 400, HELD), SPEED_MPS)[0].status is Status.LOST
    assert followed(tracking(), sight(2, 15, WEAK), SPEED_MPS)[0].status is Status.LOST


def test_a_jump_is_inconsistent_until_confirmed_and_is_counted() -> None:
    track, reason = followed(tracking(), sight(2, 900), SPEED_MPS)
    assert (track.status, reason, track.jumps) == (Status.LOST, Reason.INCONSISTENT, 0)
    track, reason = followed(track, sight(3, 905), SPEED_MPS)
    assert (track.status, reason, track.jumps) == (Status.TRACKING, None, 1)


def test_a_frame_that_stands_out_is_no_reject() -> None:
    track = tracking()
    for number in range(2):
        elsewhere = Sight((2 + number) * 10**9, 0.0, 0.0, 2.0, WEAK, unexplained=0.7)
        track, _ = followed(track, elsewhere, SPEED_MPS)
    assert track.rejects == 2
    assert followed(track, sight(4, 0, WEAK), SPEED_MPS)[0].rejects == 0
    track, reason = followed(track, sight(4, 800), SPEED_MPS)
    assert (track.rejects, track.streak, reason) == (0, 1, Reason.UNCONFIRMED)


def test_after_silence_a_single_frame_is_no_position() -> None:
    late = STALE_S + 2
    silent = unseen(tracking(), round(late * 1e9))
    assert silent.status is Status.LOST
    track, reason = followed(silent, sight(late + 1, 20), SPEED_MPS)
    assert (track.status, reason) == (Status.LOST, Reason.UNCONFIRMED)
    assert followed(track, sight(late + 2, 25), SPEED_MPS)[0].status is Status.TRACKING


def test_a_lost_flight_over_a_trusted_map_is_back_with_one_sure_frame_within_reach() -> None:
    lost, _ = followed(tracking(), sight(2, 15, WEAK), SPEED_MPS)
    assert lost.status is Status.LOST
    sure = replace(sight(60, 900, ALONE), off_map=0.001)
    track, reason = followed(lost, sure, SPEED_MPS)
    assert (track.status, reason) == (Status.TRACKING, None)
    doubts = {
        "the map": replace(sure, off_map=0.4),
        "the place": replace(sure, weight=STAND_OUT),
        "how it got there": replace(sure, east_m=2000.0),
        "new ground": replace(sure, evidence=0.4 * ALONE_EVIDENCE),
    }
    for doubt, seen in doubts.items():
        assert followed(lost, seen, SPEED_MPS)[1] is Reason.UNCONFIRMED, doubt


def test_a_lost_flight_over_ground_that_was_just_seen_is_back_with_several_sure_frames() -> None:
    lost, _ = followed(tracking(), sight(2, 15, WEAK), SPEED_MPS)
    reasons = []
    for time_s in (3, 4, 5):
        seen = replace(sight(time_s, 20, ALONE), off_map=0.001, evidence=0.4 * ALONE_EVIDENCE)
        lost, reason = followed(lost, seen, SPEED_MPS)
        reasons.append(reason)
    assert reasons == [Reason.UNCONFIRMED, Reason.UNCONFIRMED, None]


def test_a_place_beside_where_pictures_have_carried_the_last_one_is_no_fix() -> None:
    track, reason = followed(tracking(), replace(sight(2, 20), off_seen=5.0), SPEED_MPS)
    assert (track.status, reason, track.rejects) == (Status.LOST, Reason.INCONSISTENT, 1)
    track, reason = followed(track, replace(sight(3, 30), off_seen=5.0), SPEED_MPS)
    assert (reason, track.streak, track.rejects) == (Reason.UNCONFIRMED, 1, 2)
    back, reason = followed(track, sight(4, 40), SPEED_MPS)
    assert (back.status, reason, back.rejects) == (Status.TRACKING, None, 0)


def test_weak_places_that_stray_are_rejects_too() -> None:
    lost, _ = followed(tracking(), sight(2, 15, WEAK), SPEED_MPS)
    for number in range(1, 4):
        lost, reason = followed(lost, replace(sight(2 + number, 20, WEAK), off_seen=9.0), SPEED_MPS)
        assert (lost.rejects, reason) == (number, Reason.AMBIGUOUS)


def test_a_fix_ends_the_rejects_before_it() -> None:
    wrong = replace(tracking(), rejects=2, streak=0, status=Status.LOST)
    sure = replace(sight(2, 15, ALONE), off_seen=9.0, off_map=0.001)
    track, reason = followed(wrong, sure, SPEED_MPS)
    assert (track.status, track.rejects, reason) == (Status.TRACKING, 0, None)


def test_a_sure_frame_that_strays_from_the_last_fix_brings_nothing_back() -> None:
    lost, _ = followed(tracking(), sight(2, 15, WEAK), SPEED_MPS)
    sure = replace(sight(4, 30, ALONE), off_map=0.001)
    assert followed(lost, sure, SPEED_MPS)[1] is None
    assert followed(lost, replace(sure, off_fixed=5.0), SPEED_MPS)[1] is Reason.UNCONFIRMED


def test_after_a_clock_was_set_back_the_next_fix_is_no_jump() -> None:
    unknown_age = replace(tracking(), fixed=None)
    track, _ = followed(unknown_age, replace(sight(2, 20), off_fixed=5.0), SPEED_MPS)
    assert (track.status, track.jumps) == (Status.TRACKING, unknown_age.jumps)


def test_a_first_position_takes_two_frames_however_sure_the_map_is() -> None:
    track, reason = after(replace(sight(0, 0, ALONE), off_map=0.0))
    assert (track.status, reason) == (Status.SEARCHING, Reason.UNCONFIRMED)


def test_a_short_silence_is_a_caveat_only() -> None:
    assert unseen(tracking(), 2 * 10**9).status is Status.DEGRADED
    assert unseen(Track(), 2 * 10**9).status is Status.SEARCHING


def test_the_age_of_the_match_counts_from_the_last_fix() -> None:
    assert Track().match_age_ms(5) is None
    assert tracking().match_age_ms(3 * 10**9) == 2000.0
    assert tracking().match_age_ms(0) == 0.0


def test_frames_that_gather_too_little_evidence_confirm_nothing_yet() -> None:
    little = 0.4 * CONFIRMING_EVIDENCE
    weak = [replace(sight(time_s, 10 * time_s), evidence=little) for time_s in range(4)]
    track, reason = after(*weak[:2])
    assert (track.status, reason) == (Status.SEARCHING, Reason.UNCONFIRMED)
    track, reason = followed(track, weak[2], SPEED_MPS)
    assert (track.status, reason) == (Status.TRACKING, None)


def test_evidence_of_another_place_does_not_count() -> None:
    far = [replace(sight(0, 0), evidence=7.0), replace(sight(1, 900), evidence=3.0)]
    track, _ = after(*far)
    assert track.evidence == 3.0


def test_a_drone_that_goes_on_as_it_did_is_expected_ahead() -> None:
    track = after(sight(0, 0), sight(1, 10), sight(2, 22))[0]
    assert track.ahead_en_m(4 * 10**9) == (46.0, 0.0)
    assert track.ahead_en_m(round((2 + STALE_S + 0.1) * 1e9)) is None
    assert Track().ahead_en_m(0) is None


def test_after_a_jump_no_velocity_is_believed() -> None:
    track = after(sight(0, 0), sight(1, 10), sight(2, 900), sight(3, 905))[0]
    assert track.jumps == 1
    assert track.velocity_en_mps == (0.0, 0.0)


def test_a_search_gathers_evidence_while_frames_lead_to_one_place() -> None:
    led = [replace(sight(time_s, 10 * time_s, HELD + 0.1), evidence=4.0) for time_s in range(3)]
    track, reason = after(*led)
    assert (track.status, reason, track.streak) == (Status.SEARCHING, Reason.AMBIGUOUS, 3)
    assert track.evidence == 12.0
    last = replace(sight(3, 30), evidence=0.5)
    assert followed(track, last, SPEED_MPS)[0].status is Status.TRACKING


def test_a_place_that_leads_elsewhere_begins_anew_and_one_too_weak_breaks_off() -> None:
    led, _ = after(replace(sight(0, 0, HELD), evidence=7.0))
    elsewhere, _ = followed(led, replace(sight(1, 900, HELD), evidence=2.0), SPEED_MPS)
    assert (elsewhere.streak, elsewhere.evidence) == (1, 2.0)
    weak, _ = followed(led, replace(sight(1, 10, WEAK), evidence=2.0), SPEED_MPS)
    assert weak.streak == 0
    track, reason = followed(weak, replace(sight(2, 20), evidence=5.0), SPEED_MPS)
    assert (track.status, reason, track.evidence) == (Status.SEARCHING, Reason.UNCONFIRMED, 5.0)


def test_frames_against_a_place_owe_it_nothing_once_others_speak_for_it() -> None:
    against = replace(sight(0, 0, HELD), evidence=-6.0)
    track, _ = after(against, replace(sight(1, 10, HELD), evidence=5.0))
    assert track.evidence == 5.0


def test_a_place_that_only_leads_keeps_no_track() -> None:
    track, reason = followed(tracking(), sight(2, 900, HELD), SPEED_MPS)
    assert (track.status, reason, track.streak) == (Status.LOST, Reason.AMBIGUOUS, 0)


def test_a_search_that_leads_and_strays_counts_each_frame_once() -> None:
    track = Track()
    for number in range(1, 3):
        strayed = replace(sight(number, 0, HELD), off_seen=9.0)
        track, _ = followed(track, strayed, SPEED_MPS)
        assert (track.rejects, track.streak) == (number, 1)
