import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skyfix.runtime.maps.quantise import quantised

FLOATS = st.floats(-2, 2, width=32, allow_subnormal=False)


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=2, max_side=40), elements=FLOATS))
def test_no_value_moves_by_more_than_half_a_step(values: np.ndarray) -> None:
    codes, scale = quantised(values)
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    tolerance = scale / 2 * (1 + 1e-5) + 1e-9
    assert np.abs(codes.astype(np.float64) * scale - values).max() <= tolerance


def test_the_largest_value_takes_the_largest_code() -> None:
    codes, scale = quantised(np.array([0.5, -0.25, 0.0], np.float32))
    assert codes.tolist() == [127, -64, 0]
    assert scale == 0.5 / 127


def test_nothing_but_zeros_stays_zero() -> None:
    codes, scale = quantised(np.zeros((3, 4), np.float32))
    assert not codes.any()
    assert scale > 0
