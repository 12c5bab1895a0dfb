"""A record whose numbers the test plants, and a small pack to fly over."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from skyfix.export.packs import build_pack
from skyfix.runtime.bench.machine import Machine, MachineState
from skyfix.runtime.bench.record import (
    Memory,
    Power,
    Record,
    Subject,
    Trace,
    WarmUp,
    Workload,
)
from skyfix.runtime.bench.workload import Video
from skyfix.runtime.encoder import Model
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.raster import Raster

MakeRecord = Callable[..., Record]


@pytest.fixture
def small_video() -> Video:
    return Video(width_px=160, height_px=90, focal_px=120.0, lap_frames=8)


@pytest.fixture(scope="session")
def town_pack(town: Raster, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "town.pack"
    build_pack(town, tiny_model, folder, imagery=Imagery(fingerprint="town"), step_m=6.0)
    return folder


@pytest.fixture
def make_record() -> MakeRecord:
    """A record of 120 frames of 10 ms each; any field may be planted."""

    def made(**planted: object) -> Record:
        count = 120
        state = MachineState(
            power_mode=None, governors=[], cpu_mhz=[], cpu_limits_mhz=None, gpu_mhz=None,
            gpu_limits_mhz=None, temperatures_c={}, load=0.1,
        )  # fmt: skip
        noise = np.random.default_rng(1).normal(1, 0.02, count)
        record = Record(
            created_utc="2026-01-01T00:00:00+00:00",
            workload=Workload(
                ground="pack", imagery="town", tiles=40, step_m=6.0, seed=4, frames=count,
                distinct_frames=24, width_px=1280, height_px=720, focal_px=930.0, height_m=100.0,
                speed_mps=10.0, interval_s=1.0, yaw_std_deg=3.0, height_std=0.03, input_px=32,
                gsd_m=1.0,
            ),
            subject=Subject(
                model="tiny", model_id="0" * 16, precision="fp32", engine="onnx",
                engine_why="named by the caller", threads=1, pack_id="1" * 16,
            ),
            machine=Machine(
                cpu="a processor", board="", gpu="", cores=2, system="Linux", python="3.10",
                libraries={"numpy": "1.26"},
            ),
            before=state, after=state,
            warm_up=WarmUp(
                frames=72, seconds=1.0, steady=True, criterion="laps", lap_medians_ms=[10.0] * 3
            ),
            started_s=[0.01 * number for number in range(count)],
            path_ms={"ortho": [2.0] * count, "encode": [7.0] * count, "publish": [1.0] * count},
            engine_ms={}, apart_ms={"decode": [3.0] * count},
            end_to_end_ms=[float(10 * value) for value in noise],
            wall_s=1.2, statuses={"tracking": count},
            memory=Memory(rss_mb=100.0, peak_rss_mb=120.0, gpu_used_mb=None, gpu_total_mb=None),
            power=Power(
                source="not readable here: no sensor", idle_w=None, load_w=None,
                energy_per_fix_j=None, energy_per_fix_above_idle_j=None,
            ),
            trace=Trace(times_s=[0.0, 0.5], hottest_c=[None] * 2, cpu_mhz=[None] * 2,
                        interval_s=0.5, cpu_percent=0.1),
        )  # fmt: skip
        return msgspec.structs.replace(record, **planted)

    return made
