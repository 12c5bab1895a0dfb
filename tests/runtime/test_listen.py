"""The columns of `skyfix listen`."""

from skyfix.runtime.listen import HEADER, line
from skyfix.runtime.publish.messages import message_from_fix
from skyfix.runtime.types import Fix, Reason, Status

POSITION = Fix(
    "DJI_001.jpg", 12_345_000_000, 0, Status.TRACKING, None, "m", "p",
    lat_deg=24.25, lon_deg=-120.5, score=0.5, margin=0.25, latency_ms=17.5,
)  # fmt: skip
NONE = Fix("30", 0, 0, Status.SEARCHING, Reason.TILT, "m", "p")


def test_a_line_holds_the_fix_under_its_header() -> None:
    cells = dict(
        zip(HEADER.split(), line(message_from_fix(POSITION, "s", None)).split(), strict=True)
    )
    assert cells == {
        "time_s": "12.345", "frame": "DJI_001.jpg", "status": "tracking",
        "lat_deg": "24.2500000", "lon_deg": "-120.5000000", "std_m": "-",
        "score": "0.500", "margin": "0.250", "ms": "17.5", "reason": "-",
    }  # fmt: skip


def test_a_frame_without_a_position_shows_its_reason_in_the_same_columns() -> None:
    row = line(message_from_fix(NONE, "s", None))
    assert row.split()[-1] == "tilt"
    assert row.index("tilt") == HEADER.index("reason")
