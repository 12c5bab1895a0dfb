import math
from pathlib import Path

import numpy as np
import pytest
import torch

from skyfix.train.config import LossConfig
from skyfix.train.losses import (
    PairLoss,
    counterfactual,
    info_nce,
    recall_at_1,
    same_ground,
    soft_margin_triplet,
)
from skyfix.train.models import Encoded

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "training_pieces.npz"
APART = torch.zeros(4, 4, dtype=torch.bool)
EVERYWHERE = torch.arange(4)[:, None] * torch.tensor([[1000.0, 0.0]])
ONE_SCENE = torch.zeros(4, dtype=torch.long)


@pytest.mark.real
def test_all_losses_are_the_published_ones() -> None:
    if not GOLDEN.is_file():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    with np.load(GOLDEN) as arrays:
        pieces = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}
    similarity = pieces["aerial"] @ pieces["ground"].T
    assert float(soft_margin_triplet(similarity)) == pytest.approx(
        float(pieces["triplet_alpha10"]), abs=1e-5
    )
    assert float(info_nce(similarity, 1 / 0.07, 0.1)) == pytest.approx(
        float(pieces["infonce_smooth01_scale1_over_007"]), abs=1e-5
    )
    apart = counterfactual(pieces["aerial"], pieces["counterfactual"])
    # the published log(1 + exp(x)) loses digits in float32 that softplus keeps
    assert float(apart) == pytest.approx(float(pieces["counterfactual_beta5"]), abs=1e-7)


def test_orthonormal_pairs_have_the_closed_form_losses() -> None:
    same = torch.eye(4)
    assert float(info_nce(same, 3.0, 0.0)) == pytest.approx(math.log(1 + 3 * math.exp(-3)))
    assert float(soft_margin_triplet(same)) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-3)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    log_sum = math.log(math.exp(3) + 3)
    expected = 0.9 * (log_sum - 3) + 0.1 * (log_sum - 3 / 4)
    assert float(info_nce(torch.eye(4), 3.0, 0.1)) == pytest.approx(expected)


def test_descriptors_that_all_agree_are_at_chance() -> None:
    assert float(info_nce(torch.ones(4, 4), 9.0, 0.1)) == pytest.approx(math.log(4))
    assert float(soft_margin_triplet(torch.ones(4, 4))) == pytest.approx(math.log(2))


def test_ignored_pairs_do_not_count_as_negatives() -> None:
    ignore = APART.clone()
    ignore[0, 1] = ignore[1, 0] = True
    similarity = torch.eye(4)
    changed = similarity.clone()
    changed[0, 1] = changed[1, 0] = 0.99
    for before, after in (
        (info_nce(similarity, 9.0, 0.1, ignore), info_nce(changed, 9.0, 0.1, ignore)),
        (soft_margin_triplet(similarity, ignore), soft_margin_triplet(changed, ignore)),
    ):
        assert float(after) == float(before)
    changed[0, 1] = 1.5
    assert recall_at_1(changed, APART) == 0.75
    assert recall_at_1(changed, ignore) == 1.0
    rows = torch.tensor([3, 3, 4, 4])  # classes left in each row
    assert float(info_nce(torch.ones(4, 4), 9.0, 0.1, ignore)) == pytest.approx(
        float(rows.double().log().mean())
    )


def test_the_gradient_stays_finite_where_pairs_are_ignored() -> None:
    ignore = ~torch.eye(4, dtype=torch.bool)
    ignore[0, 1:] = ignore[1:, 0] = False
    similarity = torch.randn(4, 4, requires_grad=True)
    loss = info_nce(similarity, 9.0, 0.1, ignore) + soft_margin_triplet(similarity, ignore)
    (gradient,) = torch.autograd.grad(loss, similarity)
    assert gradient.isfinite().all()
    assert float(gradient[1, 2]) == 0


def test_counterfactuals_cost_log_2_where_they_agree_and_nothing_where_they_oppose() -> None:
    row = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    assert float(counterfactual(row, row)) == pytest.approx(math.log(2), rel=1e-4)
    assert float(counterfactual(row, -row)) == pytest.approx(math.exp(-20), rel=1e-3)


def test_only_near_places_of_one_scene_are_the_same_ground() -> None:
    place = torch.tensor([[0.0, 0.0], [0.0, 29.0], [0.0, 31.0], [0.0, 0.0]])
    scene = torch.tensor([7, 7, 7, 8])
    near = same_ground(place, scene, 30.0)
    assert near.nonzero().tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]


def test_rows_of_the_first_half_are_matched_with_the_second() -> None:
    loss = PairLoss(LossConfig(info_nce=1.0))
    camera = torch.eye(4)
    matched = loss(Encoded(torch.cat([camera, camera])), EVERYWHERE, ONE_SCENE)
    shifted = loss(Encoded(torch.cat([camera, camera.roll(1, 0)])), EVERYWHERE, ONE_SCENE)
    assert matched[1] == 1.0
    assert shifted[1] == 0.0
    assert matched[0].item() < 1.5 < shifted[0].item()


def test_the_whole_loss_is_the_weighted_sum_of_its_parts() -> None:
    rows = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    other = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    config = LossConfig(info_nce=0.5, triplet=2.0, counterfactual=3.0, ignore_within_m=0.0)
    total, _ = PairLoss(config)(Encoded(rows, None, other), EVERYWHERE, ONE_SCENE)
    similarity = rows[:4] @ rows[4:].T
    expected = (
        0.5 * info_nce(similarity, 1 / 0.07, 0.1)
        + 2 * soft_margin_triplet(similarity)
        + 3 * (counterfactual(rows[:4], other[:4]) + counterfactual(rows[4:], other[4:])) / 2
    )
    torch.testing.assert_close(total, expected)


def test_the_temperature_is_learned_and_starts_at_0_07() -> None:
    loss = PairLoss(LossConfig(info_nce=1.0))
    assert math.exp(-loss.logit_scale.item()) == pytest.approx(0.07)
    rows = torch.randn(8, 16)
    total, _ = loss(Encoded(torch.nn.functional.normalize(rows, dim=1)), EVERYWHERE, ONE_SCENE)
    (gradient,) = torch.autograd.grad(total, loss.logit_scale)
    assert float(gradient) != 0
