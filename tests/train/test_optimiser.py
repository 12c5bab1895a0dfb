import pytest
import torch
from torch import nn

from skyfix.train.config import OptimiserConfig
from skyfix.train.optimiser import clip, optimiser_from_config, scaled_lr


def learner() -> nn.ModuleDict:
    return nn.ModuleDict({"backbone": nn.Linear(3, 2), "head": nn.Linear(2, 1)})


def test_vectors_do_not_decay_unless_asked() -> None:
    groups = optimiser_from_config(OptimiserConfig(), learner()).param_groups
    decays = {p.ndim <= 1: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {True: 0.0, False: 0.03}
    groups = optimiser_from_config(OptimiserConfig(decay_vectors=True), learner()).param_groups
    assert {group["weight_decay"] for group in groups} == {0.03}


def test_trunks_learn_at_their_own_rate() -> None:
    config = OptimiserConfig("sgd", lr=0.01, trunk_lr=0.1)
    module = learner()
    groups = optimiser_from_config(config, module).param_groups
    rates = {id(p): group["base_lr"] for group in groups for p in group["params"]}
    assert rates[id(module["backbone"].get_parameter("weight"))] == pytest.approx(0.001)
    assert rates[id(module["head"].get_parameter("bias"))] == pytest.approx(0.01)
    assert len(rates) == 4


def test_half_the_batch_takes_half_the_rate() -> None:
    assert scaled_lr(OptimiserConfig(lr=0.4), 16, 32).lr == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OptimiserConfig(clip_norm=1.0), [0.6, 0.8]),
        (OptimiserConfig(clip_value=3.5), [3.0, 3.5]),
        (OptimiserConfig(), [3.0, 4.0]),
    ],
)
def test_gradients_are_limited_as_configured(
    config: OptimiserConfig, expected: list[float]
) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    clip(config, [weight])
    torch.testing.assert_close(weight.grad, torch.tensor(expected), atol=1e-5, rtol=1e-5)
