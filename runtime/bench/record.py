"""The record of a benchmark: everything that a later run needs in order to be compared with it.

    Workload   what had to be done; two runs are compared only where it is the same
    Subject    what did it: model, engine, machine, libraries; this is what one compares
    samples    every single time in ms, so that any percentile can be computed again

docs/formats.md states every field.
"""

from pathlib import Path

import msgspec

from ..errors import InputError
from .machine import Machine, MachineState
from .samples import Percentiles

RECORD_SCHEMA = 1
KIND = "skyfix bench"
END_TO_END = "end to end"


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What had to be done; flown over a pack, or ortho and encode alone over drawn land."""

    ground: str  # PACK or DRAWN
    imagery: str  # fingerprint of the pack's map, empty over drawn land
    tiles: int  # valid ones in the pack
    step_m: float  # between tiles
    seed: int
    frames: int  # measured, warm-up apart
    distinct_frames: int  # a lap; laps repeat
    width_px: int
    height_px: int
    focal_px: float
    height_m: float  # above ground
    speed_mps: float
    interval_s: float  # between frames, on the drone's clock; the benchmark does not wait
    yaw_std_deg: float  # as the telemetry states it
    height_std: float
    input_px: int
    gsd_m: float


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What did the work."""

    model: str
    model_id: str
    precision: str
    engine: str
    engine_why: str
    threads: int  # of the engine
    pack_id: str  # empty without a pack


class WarmUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ran before the clock."""

    frames: int
    seconds: float
    steady: bool
    criterion: str
    lap_medians_ms: list[float]


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory of this process, and of the GPU where the engine runs on one."""

    rss_mb: float | None
    peak_rss_mb: float | None
    gpu_used_mb: float | None  # by what was loaded and allocated since the start
    gpu_total_mb: float | None


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power while measured; null where `source` says that nothing can be read."""

    source: str
    idle_w: float | None
    load_w: float | None
    energy_per_fix_j: float | None  # everything that was drawn, over the number of frames
    energy_per_fix_above_idle_j: float | None


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sampling thread saw; times count from the first measured frame."""

    times_s: list[float]
    hottest_c: list[float | None]
    cpu_mhz: list[float | None]
    interval_s: float
    cpu_percent: float  # of one core that sampling took, its helper process included


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows from the samples, for those who only want to read it."""

    percentiles_ms: dict[str, Percentiles]
    throughput_fps: float
    verdicts: list[str]  # what must be known before the numbers are believed


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    kind: str = KIND
    schema: int = RECORD_SCHEMA
    created_utc: str
    workload: Workload
    subject: Subject
    machine: Machine
    before: MachineState
    after: MachineState
    warm_up: WarmUp
    started_s: list[float]  # of every measured frame, since the first
    path_ms: dict[str, list[float | None]]  # stages in their order; null where a frame had none
    engine_ms: dict[str, list[float | None]]  # inside the stage `encode`
    apart_ms: dict[str, list[float | None]]  # before and after: not in `end_to_end_ms`
    end_to_end_ms: list[float]
    wall_s: float  # the whole measured run, what is apart included
    statuses: dict[str, int]
    memory: Memory
    power: Power
    trace: Trace
    summary: Summary | None = None


def check_writable(path: Path) -> None:
    """Raise InputError before the long run, not after it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist. Create it.")


def read_record(path: Path) -> Record:
    """A stored run; raises InputError for anything else."""
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data, type=_Head)
        if head.kind != KIND:
            raise InputError(
                f"{path} is no record of a benchmark: `skyfix bench --json FILE` writes one"
            )
        if head.schema != RECORD_SCHEMA:
            raise InputError(
                f"{path} has schema {head.schema}, this skyfix reads {RECORD_SCHEMA}. "
                "Run `skyfix bench --json` again for it."
            )
        record = msgspec.json.decode(data, type=Record)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no whole record of a benchmark ({error}). "
            "`skyfix bench --json FILE` writes one."
        ) from error
    _check_lengths(path, record)
    return record


class _Head(msgspec.Struct):
    kind: str = ""
    schema: int = 0


def _check_lengths(path: Path, record: Record) -> None:
    """Every list of samples has one entry a frame."""
    count = len(record.end_to_end_ms)
    groups = (record.path_ms, record.engine_ms, record.apart_ms)
    lengths = {len(samples) for group in groups for samples in group.values()}
    if not count or not lengths <= {count} or len(record.started_s) != count:
        raise InputError(f"{path}: its lists of samples differ in length. It was altered.")
