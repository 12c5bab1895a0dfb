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
    same_place,
    soft_margin_triplet,
)
from skyfix.train.models.network import Encoded

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "training_pieces.npz"
APART = torch.zeros(4, 4, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


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
    assert float(soft_margin_triplet(similarity, hard_ratio=0.5)) == pytest.approx(
        float(pieces["triplet_alpha10_hard50"]), abs=1e-5
    )
    assert float(info_nce(similarity, 1 / 0.07, 0.1)) == pytest.approx(
        float(pieces["infonce_smooth01_scale1_over_007"]), abs=1e-5
    )
    apart = counterfactual(pieces["aerial"], pieces["counterfactual"])
    # the published log(1 + exp(x)) loses digits in float32 that softplus keeps
    assert float(apart) == pytest.approx(float(pieces["counterfactual_beta5"]), abs=1e-7)


def _triplets(similarity: torch.Tensor, alpha: float, ignore: torch.Tensor) -> list[list[float]]:
    """The losses of both directions, pair by pair."""
    count = range(len(similarity))
    d = [[2 - 2 * float(similarity[i, j]) for j in count] for i in count]
    kept = [(i, j) for i in count for j in count if i != j and not ignore[i, j]]
    return [
        [math.log1p(math.exp(alpha * (d[i][i] - d[i][j]))) for i, j in kept],
        [math.log1p(math.exp(alpha * (d[j][j] - d[i][j]))) for i, j in kept],
    ]


@pytest.mark.parametrize("alpha", [1.0, 10.0, 20.0])
def test_the_triplet_loss_weighs_distances_by_alpha(alpha: float) -> None:
    similarity = torch.rand(4, 4).double() * 2 - 1
    forth, back = _triplets(similarity, alpha, APART)
    expected = sum(forth + back) / 24
    assert float(soft_margin_triplet(similarity, alpha=alpha)) == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 1.0])
def test_a_hard_ratio_keeps_the_largest_losses_of_each_direction(ratio: float) -> None:
    similarity = torch.rand(4, 4).double() * 2 - 1
    ignore = APART.clone()
    ignore[0, 3] = ignore[3, 0] = True
    directions = _triplets(similarity, 10.0, ignore)
    kept = max(1, int(ratio * 10))
    expected = sum(sum(sorted(losses)[-kept:]) / kept for losses in directions) / 2
    assert float(soft_margin_triplet(similarity, ignore, hard_ratio=ratio)) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_the_counterfactual_loss_weighs_distances_by_beta(beta: float) -> None:
    row, other = torch.nn.functional.normalize(torch.randn(2, 6, 8).double(), dim=2)
    squared = [
        sum(float(a - b) ** 2 for a, b in zip(x, y, strict=True))
        for x, y in zip(row, other, strict=True)
    ]
    expected = sum(math.log1p(math.exp(-beta * d)) for d in squared) / 6
    assert float(counterfactual(row, other, beta)) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_info_nce_is_torchs_smoothed_cross_entropy_of_both_directions(smoothing: float) -> None:
    similarity = torch.rand(5, 5) * 2 - 1
    reference = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    own = torch.arange(5)
    expected = (reference(8 * similarity, own) + reference(8 * similarity.T, own)) / 2
    torch.testing.assert_close(info_nce(similarity, 8.0, smoothing), expected)


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


def test_only_other_rows_of_the_same_number_are_the_same_place() -> None:
    near = same_place(torch.tensor([5, 7, 5, 8, 5]))
    assert near.nonzero().tolist() == [[0, 2], [0, 4], [2, 0], [2, 4], [4, 0], [4, 2]]


def test_rows_of_the_query_are_matched_with_the_references_in_order() -> None:
    loss = PairLoss(LossConfig(info_nce=1.0))
    camera = torch.eye(4)
    matched = loss(Encoded(camera), Encoded(camera), APART)
    shifted = loss(Encoded(camera), Encoded(camera.roll(1, 0)), APART)
    assert matched[1] == 1.0
    assert shifted[1] == 0.0
    assert matched[0].item() < 1.5 < shifted[0].item()


def test_the_whole_loss_is_the_weighted_sum_of_its_parts() -> None:
    rows = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    other = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    config = LossConfig(info_nce=0.5, triplet=2.0, counterfactual=3.0)
    views = (Encoded(rows[:4], None, other[:4]), Encoded(rows[4:], None, other[4:]))
    total, _ = PairLoss(config)(*views, APART)
    similarity = rows[:4] @ rows[4:].T
    expected = (
        0.5 * info_nce(similarity, 1 / 0.07, 0.1)
        + 2 * soft_margin_triplet(similarity)
        + 3 * (counterfactual(rows[:4], other[:4]) + counterfactual(rows[4:], other[4:])) / 2
    )
    torch.testing.assert_close(total, expected)


def test_the_whole_loss_takes_the_hardest_triplets_where_it_is_told_to() -> None:
    rows = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    config = LossConfig(triplet=2.0, hard_ratio=0.5)
    total, _ = PairLoss(config)(Encoded(rows[:4]), Encoded(rows[4:]), APART)
    expected = 2 * soft_margin_triplet(rows[:4] @ rows[4:].T, hard_ratio=0.5)
    torch.testing.assert_close(total, expected)
    assert float(total) > 2 * float(soft_margin_triplet(rows[:4] @ rows[4:].T))


def test_the_temperature_is_learned_and_starts_at_0_07() -> None:
    loss = PairLoss(LossConfig(info_nce=1.0))
    assert math.exp(-loss.logit_scale.item()) == pytest.approx(0.07)
    rows = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    total, _ = loss(Encoded(rows[:4]), Encoded(rows[4:]), APART)
    (gradient,) = torch.autograd.grad(total, loss.logit_scale)
    assert float(gradient) != 0
