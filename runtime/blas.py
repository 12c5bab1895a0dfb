"""Linear algebra on one thread while a frame is localised.

A frame's products are too small to be shared. Other threads of BLAS gain nothing by them, and then
wait for the next one by spinning, on the cores that inference and the sweep need: on two cores a
frame took 9 % longer with them and 20 to 45 % more processor time, medians of 180 frames.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, every BLAS of this process has one thread; afterwards as many as before."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """All that were loaded at the first frame; to find them takes 2 ms."""
    return ThreadpoolController()
