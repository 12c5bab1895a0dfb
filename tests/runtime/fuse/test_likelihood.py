import math

import msgspec
import numpy as np
import pytest

from skyfix.runtime.fuse.likelihood import Likelihood


def test_a_tiles_share_is_that_of_a_ranking_with_a_part_that_says_nothing() -> None:
    score = np.array([[0.3, 0.5, -np.inf], [0.1, 0.45, 0.5]], np.float32)
    likelihood = Likelihood(temperature=0.07, epsilon=0.1)
    total = sum(math.exp(s / 0.07) for s in (0.3, 0.5, 0.1, 0.45, 0.5))
    found = likelihood.of_tiles(score)
    for at in np.ndindex(score.shape):
        expected = 0.9 * math.exp(score[at] / 0.07) / total + 0.1 / 5
        assert found[at] == pytest.approx(expected, rel=1e-5)
    assert found[np.isfinite(score)].sum() == pytest.approx(1, abs=1e-6)


def test_evidence_is_the_same_for_one_place_and_for_many() -> None:
    likelihood = Likelihood(per_gap=10.0, per_correlation=4.0, offset=3.0)
    assert likelihood.evidence(0.7, 0.2) == pytest.approx(10 * 0.5 + 4 * 0.7 - 3)
    many = likelihood.evidence(np.array([0.7, 0.5]), np.array([0.2, 0.5]))
    assert many == pytest.approx([4.8, -1.0])


def test_the_more_places_were_looked_at_the_more_a_lead_says_and_the_more_it_has_to() -> None:
    likelihood = Likelihood(per_gap=20.0, per_correlation=10.0, offset=9.0)
    assert likelihood.among(16) == likelihood
    assert likelihood.among(1) == likelihood
    many = likelihood.among(round(16 * math.e**3))
    assert many.per_gap == pytest.approx(20 * 1.9, rel=1e-3)
    assert many.offset == pytest.approx(9.6, rel=1e-3)
    assert many.evidence(0.7, 0.55) > likelihood.evidence(0.7, 0.55)
    assert many.evidence(0.7, 0.7) < likelihood.evidence(0.7, 0.7)


@pytest.mark.parametrize(
    "field",
    [{"temperature": 0.0}, {"epsilon": 0.0}, {"epsilon": 1.0}, {"per_gap": -1.0}, {"per": 1.0}],
)
def test_numbers_that_no_frame_can_have_shown_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(field), type=Likelihood)
