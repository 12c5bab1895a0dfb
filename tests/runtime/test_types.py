import numpy as np
import pytest

from skyfix.runtime.types import Fix, Status


def fix_with(cov_en_m2: list[list[float]] | None) -> Fix:
    return Fix(
        frame_id="1", time_ns=0, sequence=0, status=Status.TRACKING, reason=None,
        model_id="m", pack_id="p", cov_en_m2=None if cov_en_m2 is None else np.array(cov_en_m2),
    )  # fmt: skip


def test_std_is_the_radius_of_a_round_ellipse() -> None:
    assert fix_with([[9.0, 0.0], [0.0, 9.0]]).std_m == pytest.approx(3.0)


def test_std_of_a_long_ellipse_is_the_root_of_the_mean_variance_however_it_is_turned() -> None:
    assert fix_with([[2.0, 0.0], [0.0, 48.0]]).std_m == pytest.approx(5.0)
    assert fix_with([[25.0, 23.0], [23.0, 25.0]]).std_m == pytest.approx(5.0)


def test_a_fix_without_position_has_no_std() -> None:
    assert fix_with(None).std_m is None
