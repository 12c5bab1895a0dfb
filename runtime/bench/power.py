"""Power from what a machine offers: counters of energy (RAPL) or lines of tegrastats.

    RAPL         watts = (count - count before) mod range / time between, summed over the domains
    tegrastats   the rail that feeds the board, or the sum of those that share its load

The second number of a rail is tegrastats' own mean and is not used; JetPack 7 adds a third.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .machine import ROOT

POWERCAP = Path("sys/class/powercap")
# Names in the order in which they are looked for: the first that is there feeds everything.
# Thor's carrier; Nano, TX2, Xavier NX, Orin Nano and NX modules; the first Nano.
INPUT_RAILS = ("VIN", "VDD_IN", "POM_5V_IN")
# Boards without such a rail: AGX Orin, AGX Xavier. AGX Orin's VDDQ_VDD2_1V8AO hangs on VIN_SYS_5V0.
SHARED_RAILS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
# "VDD_IN 2763mW/2846mW", "POM_5V_IN 2003/2003", "VIN 28548mW", but not "RAM 3168/6851MB"
RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW|(?=/\d+(?:\s|$)))(?:/\d+(?:mW)?)*(?!\S)")
MILLI, MICRO = 1e-3, 1e-6


@dataclass(frozen=True)
class Domain:
    """One energy counter of RAPL."""

    file: Path
    range_uj: int  # it counts from 0 to this, and starts again

    def read_uj(self) -> int:
        """The counter now; raises OSError where it must not be read."""
        return int(self.file.read_text(encoding="ascii"))


@dataclass(frozen=True)
class PowerTrace:
    """Mean power since the time before, at each time."""

    times_s: tuple[float, ...]
    watts: tuple[float, ...]  # one fewer: between two times

    def mean_w(self, begin_s: float, end_s: float) -> float | None:
        """Mean over a span, each piece weighted by its time in it; None where none is in it."""
        energy_j = covered_s = 0.0
        for left, right, watts in zip(self.times_s, self.times_s[1:], self.watts, strict=False):
            inside_s = max(0.0, min(right, end_s) - max(left, begin_s))
            energy_j += watts * inside_s
            covered_s += inside_s
        return energy_j / covered_s if covered_s > 0 else None


def rapl_domains(root: Path = ROOT) -> list[Domain]:
    """Packages and their DRAM; cores and graphics are within a package, psys around it."""
    found = []
    for zone in sorted((root / POWERCAP).glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            largest = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if name.startswith("package") or name == "dram":
            found.append(Domain(zone / "energy_uj", largest))
    return found


def trace_from_counts(
    times_s: Sequence[float], counts_uj: Sequence[Sequence[int]], ranges_uj: Sequence[int]
) -> PowerTrace:
    """Power between the readings of all domains, each of which may have wrapped around once."""
    watts = []
    for index in range(1, len(times_s)):
        used = sum(
            (now - before) % (largest + 1)
            for before, now, largest in zip(
                counts_uj[index - 1], counts_uj[index], ranges_uj, strict=True
            )
        )
        watts.append(used * MICRO / (times_s[index] - times_s[index - 1]))
    return PowerTrace(tuple(times_s), tuple(watts))


def trace_from_lines(times_s: Sequence[float], lines: Sequence[str]) -> PowerTrace:
    """Power from lines as they came; a line that states none is left out."""
    found = [
        (time_s, watts)
        for time_s, line in zip(times_s, lines, strict=True)
        if (watts := board_watts(rails_w(line))) is not None
    ]
    return PowerTrace(tuple(time_s for time_s, _ in found), tuple(watts for _, watts in found[1:]))


def rails_w(line: str) -> dict[str, float]:
    """Power of every rail in a line of tegrastats, now."""
    return {name: int(milliwatts) * MILLI for name, milliwatts in RAIL.findall(line)}


def board_watts(rails: Mapping[str, float]) -> float | None:
    """Power of the whole board or module, None where its rails are not there."""
    for name in INPUT_RAILS:
        if name in rails:
            return rails[name]
    for names in SHARED_RAILS:
        if rails.keys() >= set(names):
            return sum(rails[name] for name in names)
    return None
