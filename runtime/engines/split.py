"""Where an engine's time goes, in the words of trtexec.

latency = H2D + compute + D2H      between events on the stream
enqueue                            what the CPU spends until all of it is on the stream

Engines on the CPU copy nothing, and tell nothing.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from .cuda import Device, Stream

MARKS = 4  # before and after each of the three


class EngineSplit(NamedTuple):
    """Milliseconds of one batch."""

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float


@runtime_checkable
class SplitEngine(Protocol):
    """An engine that can tell how its time divides."""

    def tell_splits(self, splits: list[EngineSplit]) -> None:
        """From now on append the split of every batch to a list, which the caller empties."""
        ...


class Marks:
    """Events at the borders; a graph that was captured with them records them at every launch."""

    def __init__(self, device: Device) -> None:
        self._events = [device.event() for _ in range(MARKS)]

    def record(self, border: int, stream: Stream) -> None:
        """Mark a border: 0 = before H2D, 1 = before compute, 2 = before D2H, 3 = after it."""
        self._events[border].record(stream)

    def split(self, enqueue_ms: float) -> EngineSplit:
        """Of the last batch; waits for its end."""
        before, loaded, computed, done = self._events
        return EngineSplit(
            loaded.milliseconds_since(before),
            computed.milliseconds_since(loaded),
            done.milliseconds_since(computed),
            enqueue_ms,
        )
