"""The borders of an engine's work, on the stand-in, where any two events are 1.5 ms apart."""

from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.engines.split import EngineSplit, Marks


def test_three_spans_lie_between_four_borders(fake_gpu: Device) -> None:
    marks, stream = Marks(fake_gpu), fake_gpu.stream()
    for border in range(4):
        marks.record(border, stream)
    assert marks.split(0.25) == EngineSplit(1.5, 1.5, 1.5, 0.25)


def test_a_graph_takes_the_marks_along(fake_gpu: Device) -> None:
    """Without its flag the driver refuses an event in a capture, and with it outside of one."""
    marks, stream = Marks(fake_gpu), fake_gpu.stream()
    with stream.capture() as capture:
        for border in range(4):
            marks.record(border, stream)
    assert not stream.is_capturing
    capture.graph.launch(stream)
    marks.record(0, stream)
