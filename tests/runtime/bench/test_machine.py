"""Clocks, modes and temperatures from files as kernels write them, in a folder of the test."""

from pathlib import Path

import pytest

from skyfix.runtime.bench.machine import (
    are_locked,
    cpu_name,
    machine_here,
    memory_mb,
    power_mode_from_text,
    state_now,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN (mode 0)"),
        ("NV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER (mode 2)"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE (mode 2)"),
        ("NVPM VERB: Current mode: NV Power Mode: 25W\n1\nNVPM VERB: PARAM C\n", "25W (mode 1)"),
        ("NVPM ERROR: failed to read PARAM\n", None),
        ("", None),
    ],
)
def test_the_power_mode_is_what_nvpmodel_says(text: str, mode: str | None) -> None:
    assert power_mode_from_text(text) == mode


@pytest.mark.parametrize("folder", ["17000000.gpu", "17000000.ga10b", "gpu-gpc-0"])
def test_a_jetson_s_clocks_are_read_and_told_to_be_locked(tmp_path: Path, folder: str) -> None:
    cores = {
        f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": text
        for core in (0, 1)
        for name, text in {
            "scaling_governor": "schedutil\n", "scaling_cur_freq": f"{1190000 + core * 1000}\n",
            "scaling_min_freq": "729600\n", "scaling_max_freq": "1510400\n",
        }.items()
    }  # fmt: skip
    clock = {"cur_freq": "918000000", "min_freq": "918000000", "max_freq": "918000000"}
    gpu = {f"sys/class/devfreq/{folder}/{name}": text for name, text in clock.items()}
    other = {"sys/class/devfreq/15340000.vic/cur_freq": "115200000"}
    state = state_now(write(tmp_path, {**cores, **gpu, **other}))
    assert (state.governors, state.cpu_mhz) == (["schedutil"], [1190.0, 1191.0])
    assert state.cpu_limits_mhz == (729.6, 1510.4)
    assert (state.gpu_mhz, state.gpu_limits_mhz) == (918.0, (918.0, 918.0))
    assert (are_locked(state.cpu_limits_mhz), are_locked(state.gpu_limits_mhz)) == (False, True)


def test_sensors_that_are_off_or_constant_are_left_out(tmp_path: Path) -> None:
    zones = {"CPU-therm": 46500, "CV0-therm": -256000, "PMIC-Die": 50000, "tj-thermal": 51343}
    files = {
        f"sys/class/thermal/thermal_zone{index}/{name}": f"{text}\n"
        for index, (kind, heat) in enumerate(zones.items())
        for name, text in {"type": kind, "temp": heat}.items()
    }
    found = state_now(write(tmp_path, files)).temperatures_c
    assert found == {"CPU-therm": pytest.approx(46.5), "tj-thermal": pytest.approx(51.343)}


def test_a_machine_that_shows_nothing_gives_no_number(tmp_path: Path) -> None:
    state = state_now(tmp_path)
    assert (state.governors, state.cpu_mhz, state.temperatures_c) == ([], [], {})
    assert (state.cpu_limits_mhz, state.gpu_mhz, state.gpu_limits_mhz) == (None, None, None)
    assert are_locked(state.cpu_limits_mhz) is None
    assert memory_mb(tmp_path) == (None, None)


def test_a_file_with_nonsense_is_not_read_as_a_clock(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "<unknown>\n"}
    assert state_now(write(tmp_path, files)).cpu_mhz == []


def test_a_processor_is_named_by_itself_or_by_its_part(tmp_path: Path) -> None:
    intel = write(tmp_path / "a", {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\n"})
    orin = write(
        tmp_path / "b",
        {
            "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        },
    )
    assert cpu_name(intel) == "Some CPU"
    found = machine_here("Orin", 6, orin)
    assert (found.cpu, found.board) == ("Arm part 0xd42", "NVIDIA Jetson Orin Nano")
    assert (found.gpu, found.cores) == ("Orin", 6)
    assert found.libraries.keys() >= {"numpy", "pyzmq"}


def test_this_process_s_memory_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/status": "VmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\n"})
    assert [*memory_mb(root)] == pytest.approx([1.024, 2.048])
