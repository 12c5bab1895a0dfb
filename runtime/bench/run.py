"""A benchmark from beginning to end: make the frames, idle, warm up, measure, write down.

    frames -> idle power -> warm-up until steady -> N frames under the clock -> Record

An interrupted run is a record too, of the frames that it came to.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ..encoder import Model
from ..engines.choose import TENSORRT, TENSORRT_UNCHECKED
from ..engines.cuda import Device, open_device
from ..maps.pack import TilePack
from .machine import machine_here, memory_mb, state_now
from .record import Memory, Power, Record, Subject, Trace, WarmUp
from .sampler import Sampler
from .stages import EncodeRun, FlightRun, Sample, Stages, open_run
from .warmup import warm_up
from .workload import Flight

IDLE_S = 3.0
ON_GPU = (TENSORRT, TENSORRT_UNCHECKED)
BYTES_PER_MB = 1e6

Advance = Callable[[], None]


@dataclass(frozen=True)
class Gpu:
    """The GPU of an engine, and what was free on it before anything was loaded."""

    device: Device
    free_before: int

    @staticmethod
    def of(engine: str) -> "Gpu | None":
        """None for engines on the CPU; raises CudaError where there is no GPU."""
        if engine not in ON_GPU:
            return None
        device = open_device()
        return Gpu(device, device.memory()[0])


@dataclass(frozen=True)
class Parts:
    """What is benchmarked."""

    model: Model
    pack: TilePack | None
    threads: int
    gpu: Gpu | None


def measure(parts: Parts, flight: Flight, advance: Advance) -> Record:
    """Run it all; an interrupt before the first frame under the clock is passed on."""
    with open_run(parts.pack, parts.model, flight.camera) as run, Sampler() as sampler:
        idle = (time.perf_counter(), time.perf_counter() + IDLE_S)
        if sampler.can_read_power:
            time.sleep(IDLE_S)
        warm = _warmed(run, flight)
        before = state_now()
        samples = _measured(run, flight, warm.frames, advance)
        wall_s = time.perf_counter() - samples[0].started_s
        after, memory = state_now(), _memory(parts.gpu)
    return Record(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        workload=flight.workload,
        subject=_subject(parts),
        machine=machine_here(parts.gpu.device.name if parts.gpu else "", parts.threads),
        before=before,
        after=after,
        warm_up=warm,
        started_s=[sample.started_s - samples[0].started_s for sample in samples],
        path_ms=columns([sample.path_ms for sample in samples]),
        engine_ms=columns([sample.engine_ms for sample in samples]),
        apart_ms=columns([sample.apart_ms for sample in samples]),
        end_to_end_ms=[sample.end_to_end_ms for sample in samples],
        wall_s=wall_s,
        statuses=dict(Counter(sample.status for sample in samples)),
        memory=memory,
        power=_power(sampler, idle, (samples[0].started_s, wall_s), len(samples)),
        trace=_trace(sampler, samples[0].started_s),
    )


def is_whole(record: Record) -> bool:
    """Whether it came to its end."""
    return len(record.end_to_end_ms) == record.workload.frames


def columns(rows: Sequence[Stages]) -> dict[str, list[float | None]]:
    """Stage -> a value for every frame, in the order of the frames' own stages.

    A frame that was refused half-way lacks the later stages, so the longest row sets the order and
    what only others have is put before its last stage, which is the publishing.
    """
    longest = max(rows, key=len, default={})
    others = {name: None for row in rows for name in row if name not in longest}
    *names, last = longest or [""]
    order = [name for name in (*names, *others, last) if name]
    return {name: [row.get(name) for row in rows] for name in order}


def _warmed(run: FlightRun | EncodeRun, flight: Flight) -> WarmUp:
    return warm_up(lambda number: run.run(number, flight.shot(number)), len(flight.lap))


def _measured(
    run: FlightRun | EncodeRun, flight: Flight, first: int, advance: Advance
) -> list[Sample]:
    """The frames under the clock; those before an interrupt, if there are any."""
    samples: list[Sample] = []
    try:
        for number in range(first, first + flight.workload.frames):
            samples.append(run.run(number, flight.shot(number)))
            advance()
    except KeyboardInterrupt:
        if not samples:
            raise
    return samples


def _subject(parts: Parts) -> Subject:
    card, choice = parts.model.card, parts.model.choice
    return Subject(
        model=card.name,
        model_id=card.model_id,
        precision=card.precision,
        engine=choice.name,
        engine_why=choice.why,
        threads=parts.threads,
        pack_id=parts.pack.pack_id if parts.pack else "",
    )


def _memory(gpu: Gpu | None) -> Memory:
    rss_mb, peak_mb = memory_mb()
    used_mb = total_mb = None
    if gpu is not None:
        free, total = gpu.device.memory()
        used_mb, total_mb = (gpu.free_before - free) / BYTES_PER_MB, total / BYTES_PER_MB
    return Memory(rss_mb=rss_mb, peak_rss_mb=peak_mb, gpu_used_mb=used_mb, gpu_total_mb=total_mb)


def _power(
    sampler: Sampler, idle: tuple[float, float], clock: tuple[float, float], frames: int
) -> Power:
    """Means over the idle span and over the clock's: (begin, end) and (begin, duration)."""
    trace, (begin_s, wall_s) = sampler.power(), clock
    idle_w, load_w = trace.mean_w(*idle), trace.mean_w(begin_s, begin_s + wall_s)
    energy_j = above_j = None
    if load_w is not None:
        energy_j = load_w * wall_s / frames
        above_j = None if idle_w is None else (load_w - idle_w) * wall_s / frames
    return Power(
        source=sampler.source,
        idle_w=idle_w,
        load_w=load_w,
        energy_per_fix_j=energy_j,
        energy_per_fix_above_idle_j=above_j,
    )


def _trace(sampler: Sampler, begin_s: float) -> Trace:
    ticks = [tick for tick in sampler.ticks if tick.time_s >= begin_s]
    return Trace(
        times_s=[tick.time_s - begin_s for tick in ticks],
        hottest_c=[tick.hottest_c for tick in ticks],
        cpu_mhz=[tick.cpu_mhz for tick in ticks],
        interval_s=sampler.interval_s,
        cpu_percent=sampler.cpu_percent,
    )
