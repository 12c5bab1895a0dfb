from collections.abc import Iterator

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from skyfix.runtime import blas
from skyfix.runtime.blas import one_blas_thread
from skyfix.runtime.fuse.track import Track
from skyfix.runtime.localizer import Localizer
from skyfix.runtime.types import Fix, Frame, LostFrame, Reason, Status, Telemetry


@pytest.fixture
def two_threads() -> Iterator[None]:
    blas._libraries.cache_clear()  # what other tests have loaded since is a library too
    with threadpool_limits(2, user_api="blas"):
        yield
    blas._libraries.cache_clear()


def threads() -> set[int]:
    """Of each BLAS that numpy and OpenCV bring."""
    libraries = ThreadpoolController().select(user_api="blas").info()
    assert libraries
    return {library["num_threads"] for library in libraries}


@pytest.mark.usefixtures("two_threads")
def test_a_frame_has_one_thread_and_what_comes_after_it_as_many_as_before() -> None:
    assert threads() == {2}
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_a_frame_that_fails_leaves_the_threads_to_others() -> None:
    with pytest.raises(ValueError, match="broken"), one_blas_thread():
        raise ValueError("broken")
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_frames_of_two_flights_that_overlap_leave_as_many_threads_as_before() -> None:
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads() == {1}
    second.__exit__(None, None, None)
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_a_localizers_frame_is_such_a_frame() -> None:
    class Watched(Localizer):
        def __init__(self) -> None:
            self.seen: set[int] = set()

        def _sought(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> Reason:
            del frame, telemetry
            self.seen = threads()
            return Reason.BLANK

        def _without_position(self, *_: object) -> Fix:
            return Fix("0", 0, 0, Status.SEARCHING, Reason.BLANK, model_id="", pack_id="")

    watched = Watched()
    watched._track = Track()
    assert watched.step(LostFrame("0", 0, Reason.BLANK), None).reason is Reason.BLANK
    assert watched.seen == {1}
