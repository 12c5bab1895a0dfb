"""Heat, clocks and power while something runs, read by threads that sleep almost always.

Threads only store what they read; lines are parsed and counters turned into watts afterwards. The
CPU time of the threads, and of tegrastats itself, is measured and belongs to the record.
"""

import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from .machine import ROOT, cpu_clocks_mhz, temperatures_c
from .power import (
    Domain,
    PowerTrace,
    board_watts,
    rails_w,
    rapl_domains,
    trace_from_counts,
    trace_from_lines,
)

INTERVAL_S = 0.5
FIRST_LINE_S = 3.0  # within which tegrastats has said something
MS_PER_S = 1000


@dataclass(frozen=True)
class Tick:
    """What the kernel's files said at one time."""

    time_s: float
    hottest_c: float | None
    cpu_mhz: float | None  # mean of the cores
    energy_uj: tuple[int, ...]


@dataclass
class Tegrastats:
    """A running tegrastats and its lines."""

    process: "subprocess.Popen[str]"
    times_s: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@final
class Sampler:
    """Samples from its start to its end; times are those of time.perf_counter."""

    def __init__(self, root: Path = ROOT, interval_s: float = INTERVAL_S) -> None:
        """Find out what can be read."""
        self.interval_s = interval_s
        self.ticks: list[Tick] = []
        self._root = root
        self._domains, self._obstacle = _readable(rapl_domains(root))
        self._tegrastats: Tegrastats | None = None
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._cpu_s = 0.0  # of the threads; each adds its own once, at its end
        self._begun_s = self._end_s = time.perf_counter()

    def __enter__(self) -> "Sampler":
        self._children_s = _children_s()
        self._begun_s = time.perf_counter()
        self._tegrastats = _started_tegrastats(self.interval_s)
        self._start(self._tick)
        if self._tegrastats is not None:
            self._start(self._listen)
            _wait_for_line(self._tegrastats)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._tegrastats is not None:
            self._tegrastats.process.terminate()
            self._tegrastats.process.wait()
        for thread in self._threads:
            thread.join()
        if self._tegrastats is not None and self._tegrastats.process.stdout is not None:
            self._tegrastats.process.stdout.close()
        self._end_s = time.perf_counter()
        self._cpu_s += _children_s() - self._children_s

    @property
    def source(self) -> str:
        """Where power comes from, or why there is none; for people."""
        if self._tegrastats is not None and self._reads_rails:
            return "tegrastats: " + ", ".join(sorted(rails_w(self._tegrastats.lines[-1])))
        if self._domains:
            return "RAPL: processor packages and their memory, no GPU, no board"
        if self._tegrastats is not None:
            return "not readable here: tegrastats shows no power rail (run it as root)"
        return f"not readable here: {self._obstacle}"

    @property
    def can_read_power(self) -> bool:
        """Whether there is any."""
        return bool(self._domains) or self._reads_rails

    @property
    def cpu_percent(self) -> float:
        """Of one core, spent in sampling; known at the end."""
        return 100 * self._cpu_s / max(self._end_s - self._begun_s, 1e-9)

    def power(self) -> PowerTrace:
        """Everything that was read of power."""
        if self._tegrastats is not None and self._reads_rails:
            return trace_from_lines(self._tegrastats.times_s, self._tegrastats.lines)
        if not self._domains:
            return PowerTrace((), ())
        return trace_from_counts(
            [tick.time_s for tick in self.ticks],
            [tick.energy_uj for tick in self.ticks],
            [domain.range_uj for domain in self._domains],
        )

    @property
    def _reads_rails(self) -> bool:
        lines = self._tegrastats.lines[:1] if self._tegrastats else []
        return any(board_watts(rails_w(line)) is not None for line in lines)

    def _start(self, target: Callable[[], None]) -> None:
        def run() -> None:
            target()
            self._cpu_s += time.thread_time()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _tick(self) -> None:
        while True:
            self.ticks.append(self._read())
            if self._ended.wait(self.interval_s):
                break
        self.ticks.append(self._read())

    def _read(self) -> Tick:
        clocks = cpu_clocks_mhz(self._root)
        return Tick(
            time.perf_counter(),
            max(temperatures_c(self._root).values(), default=None),
            sum(clocks) / len(clocks) if clocks else None,
            tuple(domain.read_uj() for domain in self._domains),
        )

    def _listen(self) -> None:
        assert self._tegrastats is not None
        assert self._tegrastats.process.stdout is not None
        for line in self._tegrastats.process.stdout:
            self._tegrastats.times_s.append(time.perf_counter())
            self._tegrastats.lines.append(line)


def _readable(domains: list[Domain]) -> tuple[list[Domain], str]:
    """The domains, or none and why: since 2020 Linux keeps these counters for root."""
    if not domains:
        return [], "no tegrastats, and no RAPL counters in /sys/class/powercap"
    try:
        for domain in domains:
            domain.read_uj()
    except (OSError, ValueError) as error:
        return [], f"RAPL's counters cannot be read ({error}); run as root"
    return domains, ""


def _started_tegrastats(interval_s: float) -> Tegrastats | None:
    program = shutil.which("tegrastats")
    if program is None:
        return None
    process = subprocess.Popen(
        [program, "--interval", str(round(interval_s * MS_PER_S))],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return Tegrastats(process)


def _wait_for_line(tegrastats: Tegrastats) -> None:
    """Whether it shows power is known from its first line."""
    deadline_s = time.perf_counter() + FIRST_LINE_S
    while not tegrastats.lines and time.perf_counter() < deadline_s:
        if tegrastats.process.poll() is not None:
            return
        time.sleep(0.02)


def _children_s() -> float:
    """CPU time of helper processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
