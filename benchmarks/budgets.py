r"""Time and memory against their budgets, on two cores, on a flight that is drawn from a seed.

    python benchmarks/budgets.py --markdown

Frame to fix, memory and start-up are measured on `skyfix replay` as a user starts it. What is
compared (pack build and bare encoder, import and bare interpreter) takes turns in one run, and the
medians are set against each other.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from budget_flight import BudgetFlight, drawn_flight
from cores import keep_to_two_cores
from numpy.typing import NDArray
from tables import ABSENT, TextTable, number, show, verdict

from skyfix.export.packs import build_pack
from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Encoder, Model, load_model, model_folder
from skyfix.runtime.errors import SkyfixError
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.score import read_fixes
from skyfix.runtime.types import Patch

FRAME_P95_MS, START_S, IMPORT_S, RSS_MB, BUILD_RATIO = 50.0, 3.0, 0.3, 400.0, 0.9  # issue 2
IMPORT_RUNS = 9
MODES = {"filter, no prior": (), "independent": ("--independent",)}

# The `skyfix` command, then the high-water mark of its own memory. rusage's maxrss would not do:
# Linux keeps in it the size of the process that forked, which is this one.
SKYFIX = """
from skyfix.runtime.cli import main
try:
    main()
finally:
    print(open("/proc/self/status").read())
"""


@dataclass(frozen=True)
class Budget:
    """A number beside what it may be."""

    what: str
    bound: str
    reached: str
    met: bool | None  # None where nothing is asked


@dataclass(frozen=True)
class ReplayRun:
    """One `skyfix replay`."""

    fixes: list[FixMessage]
    seconds: float  # from start to end of the process
    rss_mb: float


@dataclass(frozen=True)
class Recorder(Encoder):
    """An encoder that keeps the batches it was given."""

    batches: list[Sequence[Patch]] = field(default_factory=list)

    def describe(self, patches: Sequence[Patch]) -> NDArray[np.float32]:
        """As the encoder does."""
        self.batches.append(patches)
        return super().describe(patches)


def main(
    model: Annotated[str, typer.Option(help="Shipped model or model folder.")] = "nano",
    runs: Annotated[int, typer.Option(min=1, help="Runs of what is repeated.")] = 5,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for documents.")] = False,
) -> None:
    """Measure every budget and print it beside what was reached."""
    keep_to_two_cores()
    where = model_folder(model)
    with TemporaryDirectory() as folder:
        flight, pack = drawn_flight(Path(folder)), Path(folder) / "pack"
        build = build_budget(flight, load_model(where), pack, runs)
        replays = {
            mode: replay(flight, where, pack, flight.telemetry, options)
            for mode, options in MODES.items()
        }
        starts = [
            replay(flight, where, pack, flight.first_row, MODES["independent"])
            for _ in range(runs)
        ]  # fmt: skip
    budgets = [
        *(frame_budget(mode, run) for mode, run in replays.items()),
        start_budget(starts),
        *import_budgets(),
        rss_budget(list(replays.values())),
        build,
    ]
    show(budget_table(budgets), markdown=markdown)
    show(stage_table(replays), markdown=markdown)


def frame_budget(mode: str, run: ReplayRun) -> Budget:
    """Frame to fix, decoding apart."""
    p50_ms, p95_ms = np.percentile(latencies_ms(run), (50, 95))
    return Budget(
        f"frame to fix, {mode}, p95 (p50)", f"{FRAME_P95_MS:g} ms",
        f"{p95_ms:.1f} ms ({p50_ms:.1f} ms)", bool(p95_ms <= FRAME_P95_MS),
    )  # fmt: skip


def start_budget(starts: Sequence[ReplayRun]) -> Budget:
    """A replay of one frame from start to end, which is a little more than to its fix."""
    if any(run.fixes[0].lat_deg is None for run in starts):
        raise SkyfixError("the first frame was not localised: this start-up time is of no fix")
    seconds = float(np.median([run.seconds for run in starts]))
    return Budget(
        "process start to first fix, median", f"{START_S:g} s", f"{seconds:.2f} s",
        seconds <= START_S,
    )  # fmt: skip


def import_budgets() -> list[Budget]:
    """`import skyfix.runtime` beyond a bare interpreter; and all that a replay imports."""
    bare_s, package_s, replay_s = medians_in_turn(
        [
            lambda: python_seconds("pass"),
            lambda: python_seconds("import skyfix.runtime"),
            lambda: python_seconds("import skyfix.runtime.replay"),
        ],
        IMPORT_RUNS,
    )
    asked_s = max(0.0, package_s - bare_s)  # less than the interpreter's own scatter
    all_s = replay_s - bare_s
    return [
        Budget("import skyfix.runtime", f"{IMPORT_S:g} s", f"{asked_s:.3f} s", asked_s <= IMPORT_S),
        Budget("import skyfix.runtime.replay", ABSENT, f"{all_s:.3f} s", None),
    ]


def rss_budget(runs: Sequence[ReplayRun]) -> Budget:
    """The largest replay."""
    rss_mb = max(run.rss_mb for run in runs)
    return Budget(
        "peak resident memory of a replay", f"{RSS_MB:g} MB", f"{rss_mb:.0f} MB", rss_mb <= RSS_MB
    )


def build_budget(flight: BudgetFlight, model: Model, pack: Path, runs: int) -> Budget:
    """Rate of a pack build beside the encoder's own on the same batches; leaves a pack behind."""
    recorder = Recorder(model.map.card, model.map.engine)
    build(flight, replace(model, map=recorder), pack)  # warms up, too
    again = pack.with_name("again")

    def encode() -> float:
        begin = time.perf_counter()
        for batch in recorder.batches:
            model.map.describe(batch)
        return time.perf_counter() - begin

    build_s, encode_s = medians_in_turn([lambda: build(flight, model, again), encode], runs)
    tiles, ratio = sum(len(batch) for batch in recorder.batches), encode_s / build_s
    return Budget(
        "pack build beside the bare encoder", f"{BUILD_RATIO:.0%}",
        f"{ratio:.1%} ({tiles / build_s:.0f} of {tiles / encode_s:.0f} tiles/s)",
        ratio >= BUILD_RATIO,
    )  # fmt: skip


def build(flight: BudgetFlight, model: Model, pack: Path) -> float:
    """Seconds that a build takes, from opening the map to the finished folder."""
    shutil.rmtree(pack, ignore_errors=True)  # of the run before
    begin = time.perf_counter()
    build_pack(open_raster(flight.map_file).reader, model, pack, imagery=Imagery(accuracy_m=0))
    return time.perf_counter() - begin


def replay(
    flight: BudgetFlight, model: Path, pack: Path, telemetry: Path, options: Sequence[str]
) -> ReplayRun:
    """Run `skyfix replay` as a process of its own."""
    out = pack.with_name("fixes.jsonl")
    words = [
        "replay", "--pack", pack, "--frames", flight.frames, "--telemetry", telemetry,
        "--camera", flight.camera, "--model", model, "--out", out, *options,
    ]  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SKYFIX, *(str(word) for word in words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    peak = re.search(r"^VmHWM:\s+(\d+) kB", done.stdout, re.MULTILINE)
    if done.returncode or peak is None:
        raise SkyfixError(f"skyfix replay failed: {done.stderr}")
    return ReplayRun(read_fixes(out), seconds, int(peak[1]) / 1e3)


def python_seconds(code: str) -> float:
    """Wall clock of an interpreter that runs some code."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def medians_in_turn(measures: Sequence[Callable[[], float]], runs: int) -> list[float]:
    """Median of each measure; they take turns, so that what slows the machine slows all."""
    taken = np.array([[measure() for measure in measures] for _ in range(runs)])
    return [float(value) for value in np.median(taken, axis=0)]


def latencies_ms(run: ReplayRun) -> list[float]:
    """Of every frame, also without a position."""
    return [fix.latency_ms for fix in run.fixes if fix.latency_ms is not None]


def budget_table(budgets: Sequence[Budget]) -> TextTable:
    """Every budget and whether it holds."""
    rows = [
        (
            budget.what, budget.bound, budget.reached,
            ABSENT if budget.met is None else verdict(met=budget.met),
        )
        for budget in budgets
    ]  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    return TextTable(f"Budgets on {cores} cores", ("what", "budget", "reached", ""), rows)


def stage_table(replays: dict[str, ReplayRun]) -> TextTable:
    """Where the time of a frame goes."""
    rows = []
    for mode, run in replays.items():
        stages = dict.fromkeys(name for fix in run.fixes for name in fix.stages_ms)
        for name in stages:
            taken = [fix.stages_ms[name] for fix in run.fixes if name in fix.stages_ms]
            p50_ms, p95_ms = np.percentile(taken, (50, 95))
            rows.append((f"{mode}: {name}", number(float(p50_ms)), number(float(p95_ms))))
    frames = len(next(iter(replays.values())).fixes)
    return TextTable(f"Frame to fix by stage, {frames} frames", ("stage", "p50 ms", "p95 ms"), rows)


if __name__ == "__main__":
    try:
        typer.run(main)
    except SkyfixError as error:
        sys.exit(f"error: {error}")
