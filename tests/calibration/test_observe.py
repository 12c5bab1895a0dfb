from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from skyfix.calibration.observe import BINS, NOTHING, Histogram, observed_ranges
from skyfix.runtime.errors import InputError

FINITE = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
Floats = NDArray[np.float32]


def histogram_of(*batches: NDArray[np.floating[Any]]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch.astype(np.float32))
    return histogram


@given(st.lists(arrays(np.float32, st.integers(1, 9), elements=FINITE), min_size=1, max_size=6),
       st.randoms(use_true_random=False))  # fmt: skip
def test_the_order_of_the_batches_does_not_matter(batches: list[Floats], random: object) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as object
    first, second = histogram_of(*batches), histogram_of(*shuffled)
    assert first.span == second.span
    largest = max(float(np.abs(batch).max()) for batch in batches)
    assert first.largest == second.largest == (largest if largest >= NOTHING else 0.0)
    np.testing.assert_array_equal(first.counts, second.counts)


def test_a_histogram_that_grew_equals_one_that_knew_the_span() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=500) * scale for scale in (1e-4, 0.01, 1.0, 300.0)]
    grown = histogram_of(*parts)
    values = np.abs(np.concatenate(parts).astype(np.float32))
    edges = np.arange(BINS + 1) * (grown.span / BINS)
    np.testing.assert_array_equal(grown.counts, np.histogram(values, edges)[0])


def test_memory_does_not_grow_and_nothing_is_lost() -> None:
    histogram = histogram_of(np.zeros(7), np.full(3, 1e-3), np.full(2, 1e5))
    assert histogram.counts.shape == (BINS,)
    assert histogram.counts.sum() == 12


def test_minmax_is_the_largest_and_percentile_that_of_numpy() -> None:
    values = np.random.default_rng(1).standard_t(3, size=400_000).astype(np.float32)
    histogram = histogram_of(*np.split(values, 8))
    ranges = histogram.ranges()
    assert ranges.minmax == np.abs(values).max()
    assert abs(ranges.percentile - np.percentile(np.abs(values), 99.99)) <= (
        2 * histogram.span / BINS
    )


def test_the_mse_cut_is_that_of_a_search_over_the_values_themselves() -> None:
    values = np.random.default_rng(2).laplace(size=50_000).astype(np.float32)

    def error(cut: float) -> float:
        codes = np.clip(np.rint(values / (cut / 127)), -127, 127)
        return float(np.mean((values - codes * (cut / 127)) ** 2))

    cuts = np.linspace(0.2, 1.0, 200) * np.abs(values).max()
    best = min(error(float(cut)) for cut in cuts)
    found = histogram_of(values).ranges().mse
    assert found < np.abs(values).max()
    assert error(found) <= best * 1.02


def test_the_entropy_cut_leaves_one_outlier_outside_and_a_uniform_range_whole() -> None:
    uniform = np.random.default_rng(3).uniform(-1, 1, 100_000)
    assert histogram_of(uniform).ranges().entropy > 0.97
    spoiled = histogram_of(np.append(np.random.default_rng(4).normal(size=100_000), 60.0))
    assert spoiled.ranges().minmax == 60
    assert 2.5 < spoiled.ranges().entropy < 6


def test_a_tensor_of_zeros_has_no_range() -> None:
    ranges = histogram_of(np.zeros(5), np.zeros(2)).ranges()
    assert (ranges.minmax, ranges.percentile, ranges.entropy, ranges.mse) == (0, 0, 0, 0)


def test_ranges_of_inner_tensors_are_those_of_the_network(
    network: onnx.ModelProto, inputs: Floats
) -> None:
    stem = {t.name: onnx.numpy_helper.to_array(t) for t in network.graph.initializer}["stem.weight"]
    blocks = inputs.reshape(len(inputs), 3, 16, 2, 16, 2)
    expected = np.abs(np.einsum("bcyixj,ocij->boyx", blocks, stem)).max()
    ranges = observed_ranges(network, ["stem", "patch"], [inputs[:12], inputs[12:]])
    assert ranges["stem"].minmax == pytest.approx(expected, rel=1e-5)
    assert ranges["patch"].minmax == np.abs(inputs).max()


def test_a_tensor_that_is_no_number_is_named(network: onnx.ModelProto, inputs: Floats) -> None:
    inputs[13, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"tensor stem is not finite .* frames 12 to 19"):
        observed_ranges(network, ["stem"], [inputs[:12], inputs[12:]])
