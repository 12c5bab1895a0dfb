"""The tables of a benchmark, for a terminal or as Markdown, and the same numbers for a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from .compare import Comparison
from .machine import MachineState, are_locked
from .record import END_TO_END, Record, Summary
from .samples import Change, percentiles_of, present
from .stages import H2D
from .verdicts import verdicts_of
from .workload import PACK

WIDTH = 120  # characters; a pipe has no width of its own
ABSENT = "-"
ISSUE_NAMES = {"belief": "filter (belief)"}  # stages that are better known by another name


@dataclass(frozen=True)
class TextTable:
    """Cells as text, the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def print_report(record: Record, comparison: Comparison | None, *, markdown: bool) -> None:
    """All tables, and what to beware of at the end, where it is seen."""
    tables = [_latency(record), _facts(record)]
    if comparison:
        tables.append(table_of_comparison(comparison))
    for table in tables:
        show(table, markdown=markdown)
    for verdict in comparison.doubts if comparison else verdicts_of(record):
        print(f"{'- ' if markdown else ''}BEWARE: {verdict}")


def table_of_comparison(comparison: Comparison) -> TextTable:
    """Ratios to a stored run."""
    rows = [
        (
            label_of(line.stage), f"p{line.percent:g}",
            _ms(line.stored_ms), _ms(line.now_ms),
            f"{line.ratio.value:.3f}", f"{line.ratio.low:.3f} .. {line.ratio.high:.3f}",
            _change(line.ratio.change, is_doubtful=bool(comparison.doubts)),
        )
        for line in comparison.lines
    ]  # fmt: skip
    differs = "; ".join(comparison.differences) or "nothing that is recorded"
    return TextTable(
        f"against the stored run; different: {differs}",
        ("stage", "", "stored ms", "now ms", "ratio", "95 % interval", ""),
        rows,
    )


def _change(change: Change, *, is_doubtful: bool) -> str:
    """A bootstrap knows the noise within a run, not that other programs ran in one of the two."""
    return f"{change.value}?" if is_doubtful and change is not Change.NONE else change.value


def summary_of(record: Record) -> Summary:
    """The percentiles of every stage, and the verdicts."""
    groups = (record.path_ms, {END_TO_END: record.end_to_end_ms}, record.engine_ms, record.apart_ms)
    return Summary(
        percentiles_ms={
            name: found
            for group in groups
            for name, samples in group.items()
            if (found := percentiles_of(samples))
        },
        throughput_fps=throughput_fps(record),
        verdicts=verdicts_of(record),
    )


def label_of(stage: str) -> str:
    """What people call a stage."""
    return ISSUE_NAMES.get(stage, stage)


def throughput_fps(record: Record) -> float:
    """Frames over the time of the whole run, what is apart included."""
    return len(record.end_to_end_ms) / record.wall_s


def show(table: TextTable, *, markdown: bool) -> None:
    """Print a table."""
    if markdown:
        print(markdown_from_table(table))
        return
    drawn = Table(title=table.title, title_justify="left", box=SIMPLE)
    for index, name in enumerate(table.header):
        drawn.add_column(
            name, justify="right" if index and len(table.header) > 2 else "left",
            overflow="fold", no_wrap=not index,
        )  # fmt: skip
    for row in table.rows:
        drawn.add_row(*row)
    Console(width=WIDTH).print(drawn)


def markdown_from_table(table: TextTable) -> str:
    """The title in bold, a line of headings, a line for each row."""
    right = "---:" if len(table.header) > 2 else "---"
    rules = ["---", *(right for _ in table.header[1:])]
    lines = [" | ".join(cells) for cells in (table.header, rules, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *(f"| {line} |" for line in lines), ""])


def _latency(record: Record) -> TextTable:
    rows: list[tuple[str, ...]] = []
    for name, samples in record.path_ms.items():
        rows.append(_row(name, samples, record))
        if name == "encode":
            rows += [_row(f"  {part}", times, record) for part, times in record.engine_ms.items()]
            if H2D not in record.engine_ms:
                split = f"n/a: {record.subject.engine} has no copies of its own"
                rows.append((f"  {H2D}, D2H", split, *("" for _ in range(5))))
    rows.append(_row(END_TO_END, record.end_to_end_ms, record))
    rows += [_row(f"({name})", samples, record) for name, samples in record.apart_ms.items()]
    work = record.workload
    over = f"{work.tiles} tiles" if work.ground == PACK else "drawn land, ortho and encode only"
    unit = f"{len(record.end_to_end_ms)} frames, ms"
    title = (
        f"{record.subject.model} by {record.subject.engine}, {record.subject.threads} threads, "
        f"{work.width_px}x{work.height_px}, {over}: {unit}"
    )
    return TextTable(title, ("stage", "p50", "p90", "p95", "p99", "max", "frames"), rows)


def _row(name: str, samples: Sequence[float | None], record: Record) -> tuple[str, ...]:
    found = percentiles_of(samples)
    if found is None:
        return (label_of(name), *(ABSENT for _ in range(6)))
    times = (found.p50, found.p90, found.p95, found.p99, found.max)
    share = f"{100 * present(samples).size / len(record.end_to_end_ms):.0f} %"
    return (label_of(name), *(_ms(value) for value in times), share)


def _facts(record: Record) -> TextTable:
    machine, subject, memory = record.machine, record.subject, record.memory
    trace = record.trace
    place = [machine.board, machine.cpu, f"{machine.cores} cores", machine.gpu, machine.system]
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(record.statuses.items()))
    gpu = (
        f"; GPU {memory.gpu_used_mb:.0f} of {memory.gpu_total_mb:.0f} MB"
        if memory.gpu_used_mb is not None and memory.gpu_total_mb is not None
        else "; GPU not used"
    )
    rows = [
        ("throughput", f"{throughput_fps(record):.1f} frames/s, decoding and delivery included"),
        ("frames", statuses),
        ("warm-up", _warm_up(record)),
        ("memory", f"RSS {_mb(memory.rss_mb)}, peak {_mb(memory.peak_rss_mb)}{gpu}"),
        ("power", _power(record)),
        ("clocks before", _clocks(record.before)),
        ("clocks after", _clocks(record.after)),
        ("heat", _heat(record)),
        ("sampling", f"{trace.cpu_percent:.2f} % of one core, every {trace.interval_s:g} s"),
        ("model", f"{subject.model_id}, {subject.precision}; engine: {subject.engine_why}"),
        ("machine", ", ".join(part for part in place if part)),
        ("libraries", _pairs(machine.libraries)),
    ]  # fmt: skip
    return TextTable("around it", ("", ""), rows)


def _warm_up(record: Record) -> str:
    warm = record.warm_up
    steady = "steady" if warm.steady else "NOT steady"
    return f"{steady} after {warm.frames} frames, {warm.seconds:.1f} s ({warm.criterion})"


def _power(record: Record) -> str:
    power = record.power
    if power.load_w is None or power.energy_per_fix_j is None:
        return power.source
    idle = ""
    if power.idle_w is not None and power.energy_per_fix_above_idle_j is not None:
        idle = (
            f"; idle {power.idle_w:.2f} W, above it "
            f"{1e3 * power.energy_per_fix_above_idle_j:.1f} mJ a fix"
        )
    return (
        f"{power.load_w:.2f} W, {1e3 * power.energy_per_fix_j:.1f} mJ a fix{idle} ({power.source})"
    )


def _clocks(state: MachineState) -> str:
    mode = state.power_mode or "no power mode (nvpmodel is not here)"
    governors = ", ".join(state.governors) or "no governor readable"
    cpu = _span("CPU", state.cpu_mhz, state.cpu_limits_mhz)
    gpu = _span("GPU", [state.gpu_mhz] if state.gpu_mhz else [], state.gpu_limits_mhz)
    load = "" if state.load is None else f"; load {state.load:.1f}"
    return f"{mode}; {governors}; {cpu}; {gpu}{load}"


def _span(name: str, clocks_mhz: Sequence[float], limits: tuple[float, float] | None) -> str:
    if not clocks_mhz:
        return f"{name} clock not readable"
    lowest, highest = min(clocks_mhz), max(clocks_mhz)
    span = f"{lowest:.0f}" if round(lowest) == round(highest) else f"{lowest:.0f}-{highest:.0f}"
    if limits is None:
        return f"{name} {span} MHz"
    state = "locked" if are_locked(limits) else f"free within {limits[0]:.0f}-{limits[1]:.0f}"
    return f"{name} {span} MHz, {state}"


def _heat(record: Record) -> str:
    before, after = record.before.temperatures_c, record.after.temperatures_c
    if not before:
        return "not readable here: no thermal zone"
    return ", ".join(
        f"{name} {value:.0f} -> {after[name]:.0f} C"
        for name, value in before.items()
        if name in after
    )


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _mb(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0f} MB"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
