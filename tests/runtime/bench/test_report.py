"""The tables, by what stands in them."""

from collections.abc import Callable

import msgspec
import pytest

from skyfix.runtime.bench.compare import compare
from skyfix.runtime.bench.record import Power, Record
from skyfix.runtime.bench.report import print_report, summary_of

MakeRecord = Callable[..., Record]


def lines_of(capsys: pytest.CaptureFixture[str], record: Record) -> dict[str, list[str]]:
    """Rows of the Markdown tables by their first cell."""
    print_report(record, None, markdown=True)
    rows = [line.strip("|").split(" | ") for line in capsys.readouterr().out.splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_every_stage_has_its_row_and_an_engine_that_does_not_split_says_so(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines_of(capsys, make_record())
    assert rows["encode"][:5] == ["7.00"] * 5
    assert rows["H2D, D2H"][0] == "n/a: onnx has no copies of its own"
    assert rows["(decode)"][0] == "3.00"
    assert rows["end to end"][-1] == "100 %"


def test_an_engine_s_split_stands_under_encode(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    split: dict[str, list[float | None]] = {"H2D": [0.1] * 120, "compute": [5.0] * 120}
    rows = lines_of(capsys, make_record(engine_ms=split))
    names = list(rows)
    assert names.index("encode") < names.index("H2D") < names.index("end to end")
    assert "H2D, D2H" not in rows


def test_a_stage_that_some_frames_had_not_shows_its_share(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines_of(capsys, make_record(path_ms={"refine": [1.0, None, None, None] * 30}))
    assert rows["refine"][-1] == "25 %"


def test_energy_stands_with_what_idle_takes_from_it(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    power = Power(
        source="tegrastats: VDD_IN", idle_w=3.0, load_w=8.0, energy_per_fix_j=0.08,
        energy_per_fix_above_idle_j=0.05,
    )  # fmt: skip
    (words,) = lines_of(capsys, make_record(power=power))["power"]
    assert (
        words == "8.00 W, 80.0 mJ a fix; idle 3.00 W, above it 50.0 mJ a fix (tegrastats: VDD_IN)"
    )


def test_what_cannot_be_read_is_said_and_not_invented(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines_of(capsys, make_record())
    assert rows["power"] == ["not readable here: no sensor"]
    assert rows["heat"] == ["not readable here: no thermal zone"]
    assert "CPU clock not readable" in rows["clocks before"][0]


def test_locked_and_free_clocks_differ_in_the_table(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    state = msgspec.structs.replace(
        make_record().before, power_mode="25W (mode 1)", governors=["schedutil"],
        cpu_mhz=[1190.0, 1510.0], cpu_limits_mhz=(729.0, 1510.0), gpu_mhz=918.0,
        gpu_limits_mhz=(918.0, 918.0), load=0.5,
    )  # fmt: skip
    (words,) = lines_of(capsys, make_record(before=state))["clocks before"]
    assert words == (
        "25W (mode 1); schedutil; CPU 1190-1510 MHz, free within 729-1510; GPU 918 MHz, locked; "
        "load 0.5"
    )


def test_a_comparison_shows_ratio_interval_and_verdict(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = make_record()
    now = make_record(path_ms={**stored.path_ms, "encode": [3.5] * 120})
    print_report(now, compare(now, stored), markdown=False)
    (line,) = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "encode" in line and "0.500" in line
    ]
    assert "7.00" in line
    assert line.split()[-1] == "faster"


def test_the_summary_s_throughput_counts_what_is_apart(make_record: MakeRecord) -> None:
    summary = summary_of(make_record(wall_s=2.4))
    assert summary.throughput_fps == pytest.approx(50.0)
    assert summary.percentiles_ms["ortho"].p99 == 2.0
    assert summary.percentiles_ms.keys() == {"ortho", "encode", "publish", "end to end", "decode"}


@pytest.mark.parametrize("busy_run", ["now", "stored"])
def test_a_change_is_in_question_where_either_run_had_company(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str], busy_run: str
) -> None:
    busy = msgspec.structs.replace(make_record().before, load=9.0)
    loads = {busy_run: {"before": busy}}
    stored = make_record(**loads.get("stored", {}))
    faster = {**stored.path_ms, "encode": [3.5] * 120}
    now = make_record(path_ms=faster, **loads.get("now", {}))
    print_report(now, compare(now, stored), markdown=True)
    text = capsys.readouterr().out
    assert "| faster? |" in text
    words = "the stored run: 9.0 tasks" if busy_run == "stored" else "BEWARE: 9.0 tasks"
    assert words in text
