"""The sampling threads on files and on a tegrastats of the test."""

import os
import time
from pathlib import Path

import pytest

from skyfix.runtime.bench.sampler import Sampler

ORIN = "VDD_IN 3848mW/3848mW/3848mW VDD_CPU_GPU_CV 606mW/606mW/606mW"
INTERVAL_S = 0.05


@pytest.fixture
def root(tmp_path: Path) -> Path:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    heat = tmp_path / "sys/class/thermal/thermal_zone0"
    for folder, files in (
        (zone, {"name": "package-0", "max_energy_range_uj": "999999", "energy_uj": "999000"}),
        (heat, {"type": "cpu", "temp": "41000"}),
    ):
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
    return tmp_path


@pytest.fixture
def no_tegrastats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def tegrastats(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """A program of that name: a line at once and then one every 20 ms, until it is ended."""
    program = folder / "tegrastats"
    program.write_text(f"#!/bin/sh\nwhile :; do echo '{line}'; sleep 0.02; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("no_tegrastats")
def test_energy_that_is_used_while_it_samples_is_counted_across_the_counter_s_end(
    root: Path,
) -> None:
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    with Sampler(root, INTERVAL_S) as sampler:
        time.sleep(0.12)
        counter.write_text("499999\n")  # half a joule later, beyond its end
        time.sleep(0.12)
    trace = sampler.power()
    span_s = trace.times_s[-1] - trace.times_s[0]
    mean_w = trace.mean_w(trace.times_s[0], trace.times_s[-1])
    assert mean_w is not None
    assert mean_w * span_s == pytest.approx(0.500999)
    assert sampler.source.startswith("RAPL")
    assert {tick.hottest_c for tick in sampler.ticks} == {41.0}


@pytest.mark.usefixtures("no_tegrastats")
def test_what_sampling_costs_is_known_and_small(root: Path) -> None:
    with Sampler(root, INTERVAL_S) as sampler:
        time.sleep(0.3)
    assert 0 < sampler.cpu_percent < 20
    assert len(sampler.ticks) >= 3


@pytest.mark.usefixtures("no_tegrastats")
def test_counters_for_root_alone_are_said_to_be(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def refuse(path: Path, *arguments: str | None, **options: str | None) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)  # tests may run as root, who may read it
    with Sampler(root, INTERVAL_S) as sampler:
        pass
    assert not sampler.can_read_power
    assert "not readable here" in sampler.source
    assert "run as root" in sampler.source
    assert sampler.power().mean_w(0, 1e9) is None


@pytest.mark.usefixtures("no_tegrastats")
def test_a_machine_without_sensors_says_so(tmp_path: Path) -> None:
    with Sampler(tmp_path / "empty", INTERVAL_S) as sampler:
        pass
    assert sampler.source == (
        "not readable here: no tegrastats, and no RAPL counters in /sys/class/powercap"
    )


def test_a_jetson_s_own_lines_come_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tegrastats(tmp_path, monkeypatch, ORIN)
    with Sampler(root, INTERVAL_S) as sampler:
        assert sampler.can_read_power
        time.sleep(0.2)
    trace = sampler.power()
    assert set(trace.watts) == {3.848}
    assert len(trace.watts) >= 2
    assert sampler.source == "tegrastats: VDD_CPU_GPU_CV, VDD_IN"


def test_a_tegrastats_that_hides_its_rails_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tegrastats(tmp_path, monkeypatch, "RAM 1650/7620MB (lfb 4x4MB) CPU [8%@729]")
    with Sampler(tmp_path / "empty", INTERVAL_S) as sampler:
        assert not sampler.can_read_power
    assert "tegrastats shows no power rail (run it as root)" in sampler.source


def test_tegrastats_ends_with_the_sampler_also_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tegrastats(tmp_path, monkeypatch, ORIN)
    with pytest.raises(KeyboardInterrupt), Sampler(tmp_path, INTERVAL_S) as sampler:
        raise KeyboardInterrupt
    assert sampler._tegrastats is not None
    assert sampler._tegrastats.process.poll() is not None
