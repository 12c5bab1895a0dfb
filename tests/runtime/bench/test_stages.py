"""What is timed, and where it is counted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.bench.run import columns
from skyfix.runtime.bench.stages import (
    DESCRIBED,
    EncodeRun,
    engine_times,
)
from skyfix.runtime.bench.workload import Shot, Video, flight_over
from skyfix.runtime.encoder import Model
from skyfix.runtime.engines.base import GraphCard
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.engines.split import EngineSplit


@dataclass
class TellingEngine:
    """The real engine, and splits of one millisecond more for every batch."""

    inner: OnnxEngine
    card: GraphCard
    splits: list[EngineSplit] | None = None
    batches: int = 0

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches += 1
        if self.splits is not None:
            self.splits.append(EngineSplit(1.0, 2.0 + self.batches, 0.5, 0.25))
        return self.inner.infer(batch)

    def tell_splits(self, splits: list[EngineSplit]) -> None:
        self.splits = splits


def test_latency_is_what_trtexec_calls_so() -> None:
    splits = [EngineSplit(1.0, 5.0, 0.5, 0.1), EngineSplit(2.0, 6.0, 0.25, 0.2)]
    assert engine_times(splits) == pytest.approx(
        {"H2D": 3.0, "compute": 11.0, "D2H": 0.75, "latency": 14.75, "enqueue": 0.3}
    )
    assert engine_times([]) == {}


def test_columns_keep_the_order_of_the_stages_and_leave_gaps_for_refused_frames() -> None:
    rows = [
        {"ortho": 1.0, "publish": 9.0},
        {"ortho": 2.0, "encode": 3.0, "search": 4.0, "publish": 8.0},
        {"ortho": 2.0, "rescue": 5.0, "publish": 7.0},
    ]
    found = columns(rows)
    assert list(found) == ["ortho", "encode", "search", "rescue", "publish"]
    assert found["encode"] == [None, 3.0, None]
    assert found["rescue"] == [None, None, 5.0]
    assert found["publish"] == [9.0, 8.0, 7.0]
    assert columns([{}, {}]) == {}


def test_an_engine_that_splits_is_asked_and_each_frame_has_its_own(
    tiny_model: Model, small_video: Video
) -> None:
    engine = tiny_model.query.engine
    assert isinstance(engine, OnnxEngine)
    telling = TellingEngine(engine, tiny_model.card)
    model = replace(tiny_model, query=replace(tiny_model.query, engine=telling))
    flight = flight_over(None, model.card, 30, small_video, lambda: None)
    run = EncodeRun(model, flight.camera)
    first, second = (run.run(number, flight.shot(number)) for number in range(2))
    assert (first.engine_ms["compute"], second.engine_ms["compute"]) == (3.0, 4.0)


def test_the_whole_is_the_sum_of_ortho_and_encode(tiny_model: Model, small_video: Video) -> None:
    flight = flight_over(None, tiny_model.card, 30, small_video, lambda: None)
    sample = EncodeRun(tiny_model, flight.camera).run(0, flight.shot(0))
    assert list(sample.path_ms) == ["ortho", "encode"]
    assert sample.end_to_end_ms == pytest.approx(sum(sample.path_ms.values()))
    assert (sample.status, sample.engine_ms) == (DESCRIBED, {})
    assert list(sample.apart_ms) == ["decode"]


def test_a_frame_that_is_refused_has_no_time_for_encoding(
    tiny_model: Model, small_video: Video
) -> None:
    flight = flight_over(None, tiny_model.card, 30, small_video, lambda: None)
    shot = flight.shot(0)
    oblique = Shot(shot.jpeg, replace(shot.telemetry, pitch_deg=-10.0))
    sample = EncodeRun(tiny_model, flight.camera).run(0, oblique)
    assert (list(sample.path_ms), sample.status) == (["ortho"], "tilt")
