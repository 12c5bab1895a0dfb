"""One frame through everything that flies, with a time for each part of it.

    decode | ortho encode search belief refine ... publish | deliver
     apart |<--------------- end to end ----------------->| apart

End to end begins with the decoded frame in memory and ends when the fix has been handed to the
socket. The stages are those that the localizer reports itself. `deliver` is what it then takes
until a subscriber of this process has the message.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import final

from ..encoder import Model
from ..engines.split import EngineSplit, SplitEngine
from ..errors import PublishError
from ..localizer import Localizer
from ..maps.pack import TilePack
from ..publish.bus import Publisher, Subscriber
from ..publish.messages import FixMessage, message_from_fix
from ..sense.camera import Camera
from ..sense.ortho import patch_from_frame
from ..sense.source import decode_image
from ..types import Frame, Reason
from .workload import Shot

ENDPOINT = "tcp://127.0.0.1:*"  # any free port
CONNECT_S = 5.0
DELIVERY_S = 1.0
DECODE, PUBLISH, DELIVER = "decode", "publish", "deliver"
ORTHO, ENCODE = "ortho", "encode"
H2D, COMPUTE, D2H, LATENCY, ENQUEUE = "H2D", "compute", "D2H", "latency", "enqueue"
DESCRIBED = "described"  # what a frame comes to without a pack

Stages = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One frame's times in ms."""

    started_s: float
    path_ms: Stages
    engine_ms: Stages
    apart_ms: Stages
    end_to_end_ms: float
    status: str


@dataclass
class Stopwatch:
    """Laps of one frame."""

    last_s: float = field(default_factory=time.perf_counter)

    def lap_ms(self) -> float:
        """Since the lap before."""
        now_s = time.perf_counter()
        before_s, self.last_s = self.last_s, now_s
        return (now_s - before_s) * 1e3


@final
class FlightRun:
    """Frames through a localizer and a real socket."""

    def __init__(self, pack: TilePack, model: Model, camera: Camera) -> None:
        """Open the socket and connect to it; raises PublishError, PackModelError."""
        self._localizer = Localizer(pack, model, camera)
        self._splits = listening(model)
        with ExitStack() as stack:
            self._publisher = stack.enter_context(Publisher(ENDPOINT))
            self._subscriber = stack.enter_context(Subscriber(self._publisher.endpoint))
            if not self._publisher.serve(CONNECT_S):
                raise PublishError("no subscriber can connect on this machine's loopback")
            self._stack = stack.pop_all()

    def __enter__(self) -> "FlightRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, number: int, shot: Shot) -> Sample:
        """One frame."""
        self._splits.clear()
        watch = Stopwatch()
        started_s = watch.last_s
        frame = frame_from_shot(number, shot)
        decode_ms = watch.lap_ms()
        fix = self._localizer.step(frame, shot.telemetry)
        step_ms = watch.lap_ms()
        self._publisher.publish(message_from_fix(fix, self._publisher.session, utc_ns=None))
        publish_ms = watch.lap_ms()
        self._await_fix()
        deliver_ms = watch.lap_ms()
        return Sample(
            started_s,
            {**fix.stages_ms, PUBLISH: publish_ms},
            engine_times(self._splits),
            {DECODE: decode_ms, DELIVER: deliver_ms},
            step_ms + publish_ms,
            fix.status.value,
        )

    def _await_fix(self) -> None:
        message: object = None
        while not isinstance(message, FixMessage):
            message = self._subscriber.receive(DELIVERY_S)
            if message is None:
                raise PublishError("a fix was published and did not arrive on the loopback")


@final
class EncodeRun:
    """Frames through ortho and encoder alone, where no pack is at hand."""

    def __init__(self, model: Model, camera: Camera) -> None:
        self._model, self._camera = model, camera
        self._splits = listening(model)

    def __enter__(self) -> "EncodeRun":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def run(self, number: int, shot: Shot) -> Sample:
        """One frame."""
        self._splits.clear()
        watch = Stopwatch()
        started_s = watch.last_s
        frame = frame_from_shot(number, shot)
        decode_ms = watch.lap_ms()
        card = self._model.card
        patch = patch_from_frame(
            frame.image, self._camera, shot.telemetry, card.input_px, card.gsd_m
        )
        ortho_ms = watch.lap_ms()
        path_ms, status = {ORTHO: ortho_ms}, DESCRIBED
        if isinstance(patch, Reason):
            status = patch.value
        else:
            self._model.query.describe([patch])
            path_ms[ENCODE] = watch.lap_ms()
        return Sample(
            started_s, path_ms, engine_times(self._splits), {DECODE: decode_ms},
            sum(path_ms.values()), status,
        )  # fmt: skip


def open_run(pack: TilePack | None, model: Model, camera: Camera) -> FlightRun | EncodeRun:
    """What the pack allows."""
    return FlightRun(pack, model, camera) if pack else EncodeRun(model, camera)


def listening(model: Model) -> list[EngineSplit]:
    """The list that the query engine writes its splits to; it stays empty where it has none."""
    splits: list[EngineSplit] = []
    if isinstance(model.query.engine, SplitEngine):
        model.query.engine.tell_splits(splits)
    return splits


def engine_times(splits: list[EngineSplit]) -> Stages:
    """All batches of a frame together; empty for an engine that does not split."""
    if not splits:
        return {}
    h2d, compute, d2h, enqueue = (sum(parts) for parts in zip(*splits, strict=True))
    return {H2D: h2d, COMPUTE: compute, D2H: d2h, LATENCY: h2d + compute + d2h, ENQUEUE: enqueue}


def frame_from_shot(number: int, shot: Shot) -> Frame:
    """Decode as a source does."""
    image = decode_image(shot.jpeg.tobytes())
    assert image is not None  # it was encoded in this process
    return Frame(f"{number:06d}", shot.telemetry.time_ns, image)
