"""The machine that a benchmark ran on, and the state that it was in: clocks, power mode, heat.

Everything comes from small files of the kernel, below `root`, and from nvpmodel on a Jetson. What
cannot be read is None or empty: the report says so, and no number is invented.
"""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

ROOT = Path("/")
LIBRARIES = (
    "skyfix", "numpy", "opencv-python-headless", "opencv-python", "pyzmq", "msgspec", "numkong",
    "onnxruntime", "openvino", "tensorrt", "cuda-bindings",
)  # fmt: skip
GPU_CLOCKS = re.compile(r"gpu|ga10b|gv11b|gp10b|gm20b")  # how Jetsons name the GPU's devfreq
NVPMODEL_TIMEOUT_S = 5.0
KHZ_PER_MHZ, HZ_PER_MHZ = 1e3, 1e6
MILLI = 1e-3
# Sensors that show a constant (PMIC on Xavier) or that are switched off read far outside of this.
PLAUSIBLE_C = (-40.0, 130.0)
CONSTANT_SENSORS = ("PMIC",)


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does not change while it runs."""

    cpu: str
    board: str  # of a Jetson, else empty
    gpu: str  # of the engine, else empty
    cores: int  # that this process may use
    system: str
    python: str
    libraries: dict[str, str]


class MachineState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does."""

    power_mode: str | None  # nvpmodel's name and number
    governors: list[str]  # of the cores, each once
    cpu_mhz: list[float]  # of each core now
    cpu_limits_mhz: tuple[float, float] | None  # lowest and highest that are allowed
    gpu_mhz: float | None
    gpu_limits_mhz: tuple[float, float] | None
    temperatures_c: dict[str, float]
    load: float | None  # tasks that ran or waited, mean of the last minute


def machine_here(gpu: str, cores: int, root: Path = ROOT) -> Machine:
    """This machine."""
    return Machine(
        cpu=cpu_name(root),
        board=(_text(root / "proc/device-tree/model") or "").rstrip("\0"),
        gpu=gpu,
        cores=cores,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=_versions(),
    )


def state_now(root: Path = ROOT) -> MachineState:
    """Clocks, power mode and temperatures now."""
    cores = _cores(root)
    return MachineState(
        power_mode=power_mode_here(),
        governors=sorted({text for core in cores if (text := _text(core / "scaling_governor"))}),
        cpu_mhz=cpu_clocks_mhz(root),
        cpu_limits_mhz=_limits(
            [_number(core / "scaling_min_freq") for core in cores],
            [_number(core / "scaling_max_freq") for core in cores],
            KHZ_PER_MHZ,
        ),
        gpu_mhz=_gpu_mhz(root),
        gpu_limits_mhz=_limits(
            [_number(clock / "min_freq") for clock in _gpu_clocks(root)],
            [_number(clock / "max_freq") for clock in _gpu_clocks(root)],
            HZ_PER_MHZ,
        ),
        temperatures_c=temperatures_c(root),
        load=_load(),
    )


def are_locked(limits_mhz: tuple[float, float] | None) -> bool | None:
    """Whether a clock has no choice, as after jetson_clocks; None where it is not known."""
    return None if limits_mhz is None else limits_mhz[0] == limits_mhz[1]


def cpu_name(root: Path = ROOT) -> str:
    """The processor's own name, or its part numbers where it has none (Arm)."""
    info = _text(root / "proc/cpuinfo") or ""
    for key in ("model name", "CPU part"):
        found = re.search(rf"^{key}\s*: (.+)$", info, re.MULTILINE)
        if found:
            return found[1] if key == "model name" else f"Arm part {found[1]}"
    return platform.processor() or platform.machine()


def cpu_clocks_mhz(root: Path = ROOT) -> list[float]:
    """The clock of every core now; empty where the kernel does not tell, as in most clouds."""
    found = (_number(core / "scaling_cur_freq") for core in _cores(root))
    return [value / KHZ_PER_MHZ for value in found if value is not None]


def temperatures_c(root: Path = ROOT) -> dict[str, float]:
    """Thermal zones by name."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _number(zone / "temp")
        if name and value is not None and is_temperature(name, value * MILLI):
            found[name] = value * MILLI
    return found


def is_temperature(name: str, value_c: float) -> bool:
    """Whether a sensor measures, and is switched on."""
    low, high = PLAUSIBLE_C
    return low < value_c < high and not name.upper().startswith(CONSTANT_SENSORS)


def power_mode_from_text(text: str) -> str | None:
    """Name and number from `nvpmodel -q`: 'NV Power Mode: 25W' and the number on the next line."""
    found = re.search(r"NV Power Mode: *(\S+)\s+(\d+)\s*$", text, re.MULTILINE)
    return f"{found[1]} (mode {found[2]})" if found else None


def power_mode_here() -> str | None:
    """The power mode of a Jetson, None elsewhere."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-q"], capture_output=True, text=True, check=False,
            timeout=NVPMODEL_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return power_mode_from_text(done.stdout)


def memory_mb(root: Path = ROOT) -> tuple[float | None, float | None]:
    """Resident memory of this process now and at its peak."""
    status = _text(root / "proc/self/status") or ""
    found = [re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE) for key in ("VmRSS", "VmHWM")]
    now, peak = (float(match[1]) * 1024 / 1e6 if match else None for match in found)
    return now, peak


def _cores(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))


def _gpu_clocks(root: Path) -> list[Path]:
    clocks = sorted((root / "sys/class/devfreq").glob("*"))
    return [clock for clock in clocks if GPU_CLOCKS.search(clock.name)]


def _gpu_mhz(root: Path) -> float | None:
    found = [_number(clock / "cur_freq") for clock in _gpu_clocks(root)]
    return max((value / HZ_PER_MHZ for value in found if value is not None), default=None)


def _limits(
    lowest: list[float | None], highest: list[float | None], unit: float
) -> tuple[float, float] | None:
    low = [value for value in lowest if value is not None]
    high = [value for value in highest if value is not None]
    return (min(low) / unit, max(high) / unit) if low and high else None


def _versions() -> dict[str, str]:
    return {name: version for name in LIBRARIES if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """A small file without its line end; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
