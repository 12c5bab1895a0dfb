"""What makes numbers doubtful is said, and what does not is not."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from skyfix.runtime.bench.record import Record, Trace
from skyfix.runtime.bench.verdicts import verdicts_of

MakeRecord = Callable[..., Record]


def drifting(make_record: MakeRecord, **planted: object) -> Record:
    """15 % slower at its end."""
    return make_record(end_to_end_ms=np.linspace(10, 11.5, 120).tolist(), **planted)


def traced(hottest_c: list[float | None], cpu_mhz: list[float | None]) -> Trace:
    count = len(hottest_c)
    return Trace(
        times_s=np.linspace(0, 1.2, count).tolist(), hottest_c=hottest_c, cpu_mhz=cpu_mhz,
        interval_s=0.01, cpu_percent=0.1,
    )  # fmt: skip


def test_a_quiet_steady_run_has_nothing_to_beware_of(make_record: MakeRecord) -> None:
    assert verdicts_of(make_record()) == []


def test_drift_with_rising_heat_is_thermal(make_record: MakeRecord) -> None:
    heat: list[float | None] = np.linspace(50, 62, 60).tolist()
    (words,) = verdicts_of(drifting(make_record, trace=traced(heat, [None] * 60)))
    assert "drifted by +14" in words
    assert "THERMAL: it became 8" in words


def test_drift_with_a_falling_clock_is_called_a_limit(make_record: MakeRecord) -> None:
    clock: list[float | None] = np.linspace(1500, 1300, 60).tolist()
    (words,) = verdicts_of(drifting(make_record, trace=traced([50.0] * 60, clock)))
    assert "THERMAL or power limit: the CPU's clock went by -14" in words


def test_drift_that_neither_explains_points_elsewhere(make_record: MakeRecord) -> None:
    (words,) = verdicts_of(drifting(make_record, trace=traced([50.0] * 60, [1500.0] * 60)))
    assert "look for other programs" in words


def test_drift_where_nothing_can_be_read_says_that(make_record: MakeRecord) -> None:
    (words,) = verdicts_of(drifting(make_record))
    assert "no temperature or clock can be read here" in words


def test_heat_without_drift_is_no_matter(make_record: MakeRecord) -> None:
    heat: list[float | None] = np.linspace(50, 62, 60).tolist()
    assert verdicts_of(make_record(trace=traced(heat, [None] * 60))) == []


def test_a_warm_up_that_did_not_settle_is_told(make_record: MakeRecord) -> None:
    warm = msgspec.structs.replace(make_record().warm_up, steady=False)
    (words,) = verdicts_of(make_record(warm_up=warm))
    assert words.startswith("not steady after 72 frames")


def test_a_busy_machine_is_told(make_record: MakeRecord) -> None:
    busy = msgspec.structs.replace(make_record().before, load=6.0)
    (words,) = verdicts_of(make_record(before=busy))
    assert words == "6.0 tasks wanted 2 cores: other programs run here"


@pytest.mark.parametrize(("board", "count"), [("Jetson Orin Nano", 1), ("", 0)])
def test_free_clocks_matter_on_a_board_where_they_can_be_locked(
    make_record: MakeRecord, board: str, count: int
) -> None:
    record = make_record()
    free = msgspec.structs.replace(record.before, gpu_limits_mhz=(306.0, 918.0))
    machine = msgspec.structs.replace(record.machine, board=board)
    found = verdicts_of(make_record(before=free, machine=machine))
    assert found == ["clocks of GPU are not locked: sudo jetson_clocks"] * count


def test_another_power_mode_at_the_end_is_told(make_record: MakeRecord) -> None:
    after = msgspec.structs.replace(make_record().after, power_mode="15W (mode 0)")
    assert verdicts_of(make_record(after=after)) == ["the power mode changed during the run"]
