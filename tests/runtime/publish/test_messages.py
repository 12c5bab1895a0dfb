"""The message of a fix, in both encodings."""

import dataclasses
import json
import math

import msgspec
import numpy as np
import pytest

from skyfix.runtime.errors import InputError
from skyfix.runtime.publish.messages import (
    Encoding,
    FixMessage,
    Heartbeat,
    decode_fix,
    decode_heartbeat,
    encode,
    message_from_fix,
)
from skyfix.runtime.types import Fix, Reason, Status

FIX = Fix(
    frame_id="DJI_001.jpg",
    time_ns=1_500_000_000,
    sequence=7,
    status=Status.TRACKING,
    reason=None,
    model_id="m" * 16,
    pack_id="p" * 16,
    lat_deg=24.25,
    lon_deg=120.75,
    cov_en_m2=np.array([[9.0, 1.0], [1.0, 16.0]]),
    center_lat_deg=24.5,
    center_lon_deg=120.5,
    center_cov_en_m2=np.array([[4.0, 0.0], [0.0, 4.0]]),
    score=0.75,
    margin=0.5,
    match_age_ms=0.0,
    reset_counter=2,
    latency_ms=17.5,
    stages_ms={"ortho": 3.0},
)
NO_FIX = Fix("8", 0, 0, Status.SEARCHING, Reason.TILT, "m", "p")


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize("fix", [FIX, NO_FIX], ids=["position", "no position"])
def test_a_message_comes_back_as_it_was_sent(fix: Fix, encoding: Encoding) -> None:
    message = message_from_fix(fix, "session", 1_700_000_000_000_000_001)
    assert decode_fix(encode(message, encoding)) == message


def test_a_json_line_holds_the_keys_and_values_of_the_fix() -> None:
    line = encode(message_from_fix(FIX, "session", None), "json")
    assert b"\n" not in line
    assert json.loads(line) == {
        "schema": 1, "session": "session", "sequence": 7,
        "frame": "DJI_001.jpg", "time_ns": 1_500_000_000, "utc_ns": None,
        "status": "tracking", "reason": None,
        "lat_deg": 24.25, "lon_deg": 120.75,
        "cov_en_m2": [[9.0, 1.0], [1.0, 16.0]], "std_m": math.sqrt(12.5),
        "center_lat_deg": 24.5, "center_lon_deg": 120.5,
        "center_cov_en_m2": [[4.0, 0.0], [0.0, 4.0]],
        "heading_deg": None, "heading_std_deg": None,
        "height_agl_m": None, "height_agl_std_m": None,
        "score": 0.75, "margin": 0.5, "match_age_ms": 0.0, "reset_counter": 2,
        "latency_ms": 17.5, "stages_ms": {"ortho": 3.0},
        "model_id": "m" * 16, "pack_id": "p" * 16,
    }  # fmt: skip


def test_a_frame_without_a_position_has_every_key_too() -> None:
    with_position = json.loads(encode(message_from_fix(FIX, "s", None), "json"))
    without = json.loads(encode(message_from_fix(NO_FIX, "s", None), "json"))
    assert without.keys() == with_position.keys()
    assert without["reason"] == "tilt"
    assert without["lat_deg"] is without["cov_en_m2"] is without["std_m"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null(bad: float) -> None:
    fix = dataclasses.replace(
        FIX, lon_deg=bad, score=bad, latency_ms=bad, stages_ms={"ortho": bad, "encode": 2.0},
        center_cov_en_m2=np.array([[bad, 0.0], [0.0, 1.0]]),
    )  # fmt: skip
    message = message_from_fix(fix, "s", None)
    assert (message.lat_deg, message.lon_deg, message.cov_en_m2, message.std_m) == (None,) * 4
    assert (message.score, message.latency_ms, message.center_cov_en_m2) == (None,) * 3
    assert message.stages_ms == {"encode": 2.0}
    assert message.center_lat_deg == 24.5


def test_numbers_of_numpy_are_sent_as_plain_numbers() -> None:
    fix = dataclasses.replace(FIX, score=np.float32(0.5), lat_deg=np.float64(1.0))
    message = message_from_fix(fix, "s", None)
    assert decode_fix(encode(message)) == message
    assert message.score == 0.5


def test_keys_of_a_later_version_are_ignored() -> None:
    fields = msgspec.to_builtins(message_from_fix(FIX, "s", None))
    assert decode_fix(msgspec.msgpack.encode({**fields, "heading_deg": 3.0})).frame == "DJI_001.jpg"


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"{}", b"\x80", b"\xff\xff", b"text", b'{"a":"\xff']
)
def test_bytes_that_are_no_fix_are_refused(payload: bytes) -> None:
    with pytest.raises(InputError, match="no fix message"):
        decode_fix(payload)


def test_another_schema_is_refused() -> None:
    message = message_from_fix(FIX, "s", None)
    other = FixMessage(**{**msgspec.structs.asdict(message), "schema": 99})
    with pytest.raises(InputError, match="schema 99"):
        decode_fix(encode(other))


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_a_heartbeat_comes_back_as_it_was_sent(encoding: Encoding) -> None:
    beat = Heartbeat(session="s", utc_ns=1_700_000_000_000_000_001, fixes=3)
    assert decode_heartbeat(encode(beat, encoding)) == beat
