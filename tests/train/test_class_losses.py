import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError
from skyfix.train.class_losses import (
    ClassLoss,
    circle,
    contrastive,
    hard_pairs,
    instance_loss,
    triplet,
)
from skyfix.train.config import LossConfig
from skyfix.train.models.network import Encoded

Rows = list[list[float]]
FeatureLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# from pytorch-metric-learning 2.9 (MultiSimilarityMiner() with TripletMarginLoss(0.3), and
# ContrastiveLoss(0, 1)) for the eight features of `_points` and these labels
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 3])
LIBRARY_TRIPLET = 0.9470526
LIBRARY_CONTRASTIVE = 1.3215697


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


def _drawn(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = F.normalize(torch.randn(count, 6).double() + 0.4, dim=1)
    return features, torch.randint(0, classes, (count,))


def _points() -> torch.Tensor:
    """Eight points of the unit circle, 0.4 of a radian from each other."""
    angle = 0.4 * torch.arange(8).double()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _euclid(a: list[float], b: list[float]) -> float:
    return math.dist(a, b)


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _mean_of_those_above_zero(terms: list[float]) -> float:
    counted = [term for term in terms if term > 0]
    return sum(counted) / len(counted) if counted else 0.0


def _naive_triplet(f: Rows, y: list[int]) -> float:
    terms, places = [], range(len(y))
    for a in places:
        p = [i for i in places if i != a and y[i] == y[a]]
        n = [i for i in places if y[i] != y[a]]
        if not (p and n):
            continue
        nearest_n = max(_dot(f[a], f[i]) for i in n)
        farthest_p = min(_dot(f[a], f[i]) for i in p)
        hard_p = [i for i in p if _dot(f[a], f[i]) < nearest_n + 0.1]
        hard_n = [i for i in n if _dot(f[a], f[i]) > farthest_p - 0.1]
        terms += [
            _euclid(f[a], f[i]) - _euclid(f[a], f[j]) + 0.3 for i, j in product(hard_p, hard_n)
        ]
    return _mean_of_those_above_zero(terms)


def _naive_contrastive(f: Rows, y: list[int]) -> float:
    pairs = [(i, j) for i, j in product(range(len(y)), repeat=2) if i != j]
    near = [_euclid(f[i], f[j]) for i, j in pairs if y[i] == y[j]]
    apart = [1 - _euclid(f[i], f[j]) for i, j in pairs if y[i] != y[j]]
    return _mean_of_those_above_zero(near) + _mean_of_those_above_zero(apart)


def _naive_circle(f: Rows, y: list[int], m: float = 0.25, gamma: float = 32.0) -> float:
    """log(1 + sum_p sum_n exp(...)), as the paper has it before it is split in two."""
    pairs = [(i, j) for i, j in product(range(len(y)), repeat=2) if i < j]
    s_p = [_dot(f[i], f[j]) for i, j in pairs if y[i] == y[j]]
    s_n = [_dot(f[i], f[j]) for i, j in pairs if y[i] != y[j]]
    total = 1.0
    for p, n in product(s_p, s_n):
        a_p, a_n = max(0.0, 1 + m - p), max(0.0, n + m)
        total += math.exp(gamma * (a_n * (n - m) - a_p * (p - (1 - m))))
    return math.log(total)


@pytest.mark.parametrize("count", [5, 9, 16])
def test_the_losses_over_features_are_their_naive_loops(count: int) -> None:
    features, labels = _drawn(count, 4)
    rows, numbers = features.tolist(), labels.tolist()
    assert float(triplet(features, labels)) == pytest.approx(_naive_triplet(rows, numbers))
    assert float(contrastive(features, labels)) == pytest.approx(_naive_contrastive(rows, numbers))
    assert float(circle(features, labels)) == pytest.approx(_naive_circle(rows, numbers))


def test_the_losses_have_the_values_of_the_library_that_the_published_code_calls() -> None:
    assert float(triplet(_points(), LABELS)) == pytest.approx(LIBRARY_TRIPLET, abs=1e-6)
    assert float(contrastive(_points(), LABELS)) == pytest.approx(LIBRARY_CONTRASTIVE, abs=1e-6)


def test_margins_and_gamma_are_what_they_are_called_with() -> None:
    features, labels = _drawn(8, 3)
    rows, numbers = features.tolist(), labels.tolist()
    assert float(circle(features, labels, 0.4, 8.0)) == pytest.approx(
        _naive_circle(rows, numbers, 0.4, 8.0)
    )
    easy = torch.eye(4).repeat_interleave(2, dim=0)  # pairs agree, others are sqrt(2) apart
    classes = torch.arange(4).repeat_interleave(2)
    assert float(triplet(easy, classes, margin=2.0, epsilon=9.0)) == pytest.approx(2 - math.sqrt(2))
    assert float(contrastive(easy, classes, margin=2.0)) == pytest.approx(2 - math.sqrt(2))


def test_only_pairs_within_epsilon_of_the_hardest_opposite_are_mined() -> None:
    angle = torch.tensor([0.0, 0.3, 0.6, 2.5])  # anchor, positive, negative, negative
    features = torch.stack([angle.cos(), angle.sin()], dim=1)
    labels = torch.tensor([0, 0, 1, 2])
    for epsilon, mined in ((0.1, False), (0.2, True)):  # cos 0.3 - cos 0.6 = 0.13
        positive, negative = hard_pairs(features, labels, epsilon)
        assert bool(positive[0, 1]) is mined
        assert bool(negative[0, 2]) is mined
        assert not bool(negative[0, 3])
        assert not positive.diagonal().any()


def test_the_instance_loss_is_minus_the_log_of_the_right_class() -> None:
    logits, labels = torch.randn(3, 5).double(), torch.tensor([4, 0, 2])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected += (math.log(sum(map(math.exp, row))) - row[label]) / 3
    assert float(instance_loss(logits, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [triplet, circle], ids=["triplet", "circle"])
@pytest.mark.parametrize("labels", [torch.arange(6), torch.zeros(6, dtype=torch.long)])
def test_a_batch_without_both_kinds_of_pairs_costs_nothing(
    loss: FeatureLoss, labels: torch.Tensor
) -> None:
    features = F.normalize(torch.randn(6, 4), dim=1).requires_grad_()
    cost = loss(features, labels)
    (gradient,) = torch.autograd.grad(cost, features)
    assert float(cost.detach()) == 0
    assert not gradient.any()


def test_gradients_stay_finite_where_features_coincide() -> None:
    features = F.normalize(torch.randn(3, 4), dim=1).repeat(2, 1).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 2, 1])
    total = triplet(features, labels) + contrastive(features, labels) + circle(features, labels)
    (gradient,) = torch.autograd.grad(total, features)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [triplet, contrastive, circle])
def test_a_step_down_the_gradient_separates_the_classes(loss: FeatureLoss) -> None:
    raw, labels = torch.randn(12, 6), torch.arange(12) % 3
    same = labels[:, None] == labels[None, :]
    margins = []
    for _ in range(150):
        raw.requires_grad_()
        features = F.normalize(raw, dim=1)
        similarity = (features @ features.T).detach()
        margins.append(float(similarity[same].min() - similarity[~same].max()))
        (gradient,) = torch.autograd.grad(loss(features, labels), raw)
        raw = (raw - 0.1 * F.normalize(gradient, dim=1)).detach()
    assert margins[0] < 0 < margins[-1]


def _two_views() -> tuple[dict[str, Encoded], dict[str, torch.Tensor]]:
    encoded = {
        view: Encoded(F.normalize(torch.randn(4, 6), dim=1), logits=torch.randn(4, 3))
        for view in ("satellite", "drone")
    }
    return encoded, {"satellite": torch.tensor([0, 0, 1, 2]), "drone": torch.tensor([1, 2, 2, 0])}


def test_the_whole_loss_is_summed_over_the_views() -> None:
    encoded, labels = _two_views()
    config = LossConfig(instance=0.5, class_triplet=2.0, circle=3.0, contrastive=4.0)
    expected = torch.zeros(())
    for view, one in encoded.items():
        assert one.logits is not None
        features, numbers = one.descriptor, labels[view]
        expected = (
            expected
            + 0.5 * instance_loss(one.logits, numbers)
            + 2 * triplet(features, numbers)
            + 3 * circle(features, numbers) / 4
            + 4 * contrastive(features, numbers)
        )
    torch.testing.assert_close(ClassLoss(config)(encoded, labels)[0], expected)


def test_merged_views_are_compared_with_each_other() -> None:
    encoded, labels = _two_views()
    config = LossConfig(class_triplet=2.0, circle=3.0, contrastive=4.0, merge_views=True)
    features = torch.cat([one.descriptor for one in encoded.values()])
    numbers = torch.cat(list(labels.values()))
    expected = (
        2 * triplet(features, numbers)
        + 3 * circle(features, numbers) / 4  # by the images of one view, as published
        + 4 * contrastive(features, numbers)
    )
    torch.testing.assert_close(ClassLoss(config)(encoded, labels)[0], expected)


def test_a_network_without_classes_is_refused() -> None:
    encoded, labels = _two_views()
    bare = {view: one._replace(logits=None) for view, one in encoded.items()}
    with pytest.raises(InputError, match="university1652"):
        ClassLoss(LossConfig(instance=1.0))(bare, labels)


def test_the_share_of_images_that_are_classified_right_is_over_all_views() -> None:
    encoded, labels = _two_views()
    sure = {
        view: one._replace(logits=F.one_hot(labels[view], 3).float())
        for view, one in encoded.items()
    }
    wrong = sure["drone"].logits
    assert wrong is not None
    sure["drone"] = sure["drone"]._replace(logits=wrong.roll(1, dims=1))
    assert ClassLoss(LossConfig(instance=1.0))(sure, labels)[1] == 0.5
