"""Two records against each other."""

from collections.abc import Callable

import msgspec
import pytest

from skyfix.runtime.bench.compare import compare
from skyfix.runtime.bench.record import END_TO_END, Record
from skyfix.runtime.bench.samples import Change
from skyfix.runtime.errors import InputError

MakeRecord = Callable[..., Record]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 60), ("ground", "drawn"), ("tiles", 41), ("height_m", 90.0), ("width_px", 640),
        ("seed", 5), ("imagery", "another town"), ("yaw_std_deg", 10.0), ("input_px", 64),
    ],
)  # fmt: skip
def test_other_work_is_refused_with_what_differs(
    make_record: MakeRecord, field: str, value: object
) -> None:
    now = make_record()
    stored = make_record(workload=msgspec.structs.replace(now.workload, **{field: value}))
    with pytest.raises(InputError, match=rf"{field} {value} -> {getattr(now.workload, field)}"):
        compare(now, stored)


def test_another_engine_and_library_are_compared_and_named(make_record: MakeRecord) -> None:
    stored = make_record()
    now = make_record(
        subject=msgspec.structs.replace(stored.subject, engine="openvino"),
        machine=msgspec.structs.replace(stored.machine, libraries={"openvino": "2026.4"}),
    )
    assert compare(now, stored).differences == (
        "engine onnx -> openvino", "numpy 1.26 -> none", "openvino none -> 2026.4",
    )  # fmt: skip


def test_the_stage_that_became_slower_is_the_one_that_is_named(make_record: MakeRecord) -> None:
    stored = make_record()
    now = make_record(path_ms={**stored.path_ms, "encode": [14.0] * 120})
    lines = {line.stage: line for line in compare(now, stored).lines}
    assert lines["encode"].ratio.value == pytest.approx(2.0)
    assert (lines["encode"].stored_ms, lines["encode"].now_ms) == (7.0, 14.0)
    changed = {name for name, line in lines.items() if line.ratio.change is not Change.NONE}
    assert changed == {"encode"}


def test_a_stage_of_one_run_alone_has_no_ratio(make_record: MakeRecord) -> None:
    stored = make_record()
    now = make_record(engine_ms={"H2D": [0.1] * 120})
    assert "H2D" not in {line.stage for line in compare(now, stored).lines}


def test_the_whole_is_compared_in_its_middle_and_in_its_tail(make_record: MakeRecord) -> None:
    stored = make_record()
    slow_tail = [40.0 if number % 10 == 0 else 10.0 for number in range(120)]
    lines = compare(make_record(end_to_end_ms=slow_tail), stored).lines
    whole = {line.percent: line.ratio.change for line in lines if line.stage == END_TO_END}
    assert whole == {50.0: Change.NONE, 95.0: Change.SLOWER, 99.0: Change.SLOWER}
