from collections.abc import Iterator

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from skyfix.runtime.blas import one_blas_thread


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        yield


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
