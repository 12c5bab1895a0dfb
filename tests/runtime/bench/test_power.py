"""Power of real lines of tegrastats, and of counters whose course the test knows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.bench.power import (
    PowerTrace,
    board_watts,
    rails_w,
    rapl_domains,
    trace_from_counts,
    trace_from_lines,
)

# Lines that people have posted from their boards, shortened where nothing of power stands.
NANO_JETPACK_4 = (
    "RAM 1409/3964MB (lfb 28x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [22%@518,67%@518,off,off] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@28.5C CPU@32C "
    "PMIC@50C GPU@30.5C AO@39.5C thermal@31.25C POM_5V_IN 2003/2003 POM_5V_GPU 0/0 "
    "POM_5V_CPU 320/320"
)
AGX_XAVIER_JETPACK_4 = (
    "RAM 2336/15827MB (lfb 2948x4MB) CPU [2%@1190,1%@1190,0%@1190,0%@1190,off,off,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% AO@25.5C GPU@26C Tboard@27C Tdiode@28.75C AUX@25C CPU@27C "
    "thermal@25.75C PMIC@100C GPU 465/465 CPU 310/310 SOC 1242/1242 CV 0/0 VDDRQ 0/0 "
    "SYS5V 1776/1776\n"
)
XAVIER_NX_JETPACK_5 = (
    "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) "
    "CPU [23%@1397,17%@1192,16%@1190,13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 "
    "GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C "
    "PMIC@50C VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
AGX_ORIN_JETPACK_6 = (
    "RAM 29114/30697MB (lfb 3x4MB) SWAP 4915/15348MB (cached 1MB) CPU [3%@729,4%@729] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 0%@[305,305] NVENC off VIC off APE 174 cpu@53.062C soc2@48.25C "
    "VDD_GPU_SOC 3205mW/3205mW VDD_CPU_CV 4405mW/4405mW VIN_SYS_5V0 4767mW/4767mW"
)
ORIN_NANO_JETPACK_7 = (
    "08-12-2026 15:28:04 RAM 2390/7486MB (lfb 4x4MB) CPU [6%@729,4%@729] GR3D_FREQ 0% "
    "cpu@45.687C/45.687C soc2@45.156C/45.156C tj@46.843C/46.843C VDD_IN 3848mW/3848mW/3848mW "
    "VDD_CPU_GPU_CV 606mW/606mW/606mW VDD_SOC 1174mW/1174mW/1174mW"
)
THOR_JETPACK_7 = (
    "RAM 117456/125772MB (lfb 9x4MB) CPU [0%@1890,5%@1890] cpu@43.812C tj@44.218C "
    "VDD_GPU 5517mW VDD_CPU_SOC_MSS 7484mW VIN_SYS_5V0 6309mW VIN 28548mW"
)
NOT_ROOT = "RAM 1650/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [8%@729] GR3D_FREQ 6%"


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        (NANO_JETPACK_4, 2.003),
        (AGX_XAVIER_JETPACK_4, 0.465 + 0.310 + 1.242 + 1.776),
        (XAVIER_NX_JETPACK_5, 2.763),
        (AGX_ORIN_JETPACK_6, 3.205 + 4.405 + 4.767),
        (ORIN_NANO_JETPACK_7, 3.848),
        (THOR_JETPACK_7, 28.548),
        (NOT_ROOT, None),
    ],
)
def test_a_board_s_power_is_its_input_or_the_sum_of_what_shares_its_load(
    line: str, watts: float | None
) -> None:
    assert board_watts(rails_w(line)) == (None if watts is None else pytest.approx(watts))


def test_memory_clocks_and_temperatures_are_no_rails() -> None:
    assert rails_w(NANO_JETPACK_4).keys() == {"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}
    assert rails_w(THOR_JETPACK_7).keys() == {
        "VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"
    }  # fmt: skip


def test_the_rail_s_mean_is_not_taken_for_its_power_now() -> None:
    assert rails_w("VDD_IN 2763mW/9999mW/8888mW") == {"VDD_IN": 2.763}


def test_a_line_without_power_leaves_no_gap_of_zero_watts() -> None:
    lines = ["VDD_IN 1000mW/1mW", NOT_ROOT, "VDD_IN 3000mW/1mW"]
    trace = trace_from_lines([0.0, 1.0, 2.0], lines)
    assert trace == PowerTrace((0.0, 2.0), (3.0,))


@given(
    steps_uj=st.lists(st.integers(0, 999_999), min_size=1, max_size=20),
    start_uj=st.integers(0, 999_999),
)
def test_a_counter_that_starts_again_loses_nothing(steps_uj: list[int], start_uj: int) -> None:
    counts, total = [(start_uj,)], start_uj
    for step in steps_uj:
        total += step
        counts.append((total % 1_000_000,))
    trace = trace_from_counts([0.5 * index for index in range(len(counts))], counts, [999_999])
    assert [0.5 * watts * 1e6 for watts in trace.watts] == pytest.approx(steps_uj)


def test_the_power_of_several_counters_is_their_sum() -> None:
    trace = trace_from_counts([0.0, 2.0], [(0, 900), (4_000_000, 100)], [10**9, 999])
    assert trace.watts == pytest.approx([(4_000_000 + 200) * 1e-6 / 2])


def test_the_mean_over_a_span_weighs_each_piece_by_its_time() -> None:
    trace = PowerTrace((0.0, 1.0, 4.0), (10.0, 20.0))
    assert trace.mean_w(0.5, 2.5) == pytest.approx((0.5 * 10 + 1.5 * 20) / 2)
    assert trace.mean_w(5.0, 6.0) is None


def zone(root: Path, folder: str, name: str, energy_uj: int = 7) -> None:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text("262143328850\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")


def test_no_energy_is_counted_twice(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:0:0", "core", 2)
    zone(tmp_path, "intel-rapl:0:1", "dram", 4)
    zone(tmp_path, "intel-rapl:1", "psys", 8)
    zone(tmp_path, "intel-rapl:2", "package-1", 16)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 32)
    domains = rapl_domains(tmp_path)
    assert sum(domain.read_uj() for domain in domains) == 1 + 4 + 16
    assert {domain.range_uj for domain in domains} == {262143328850}
