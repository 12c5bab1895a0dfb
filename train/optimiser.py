"""From a configuration to torch's optimiser over a network's parameters and its loss's."""

from collections.abc import Iterator

import msgspec
import torch
from torch import nn

from .config import OptimiserConfig

MOMENTUM = 0.9  # University-1652's SGD, Nesterov


def optimiser_from_config(config: OptimiserConfig, learner: nn.Module) -> torch.optim.Optimizer:
    """Each group keeps its own base rate under `base_lr`, which the schedule multiplies."""
    groups = list(_groups(config, learner))
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr, eps=config.eps)


def scaled_lr(config: OptimiserConfig, batch: int, configured_batch: int) -> OptimiserConfig:
    """The rate for another batch than the published one, by the linear rule (Goyal et al. 2017)."""
    return msgspec.structs.replace(config, lr=config.lr * batch / configured_batch)


def clip(config: OptimiserConfig, parameters: list[nn.Parameter]) -> None:
    """Limit gradients as configured."""
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, config.clip_value)


def _groups(config: OptimiserConfig, learner: nn.Module) -> Iterator[dict[str, object]]:
    """Trunks and the rest, matrices and vectors: up to four groups."""
    for trunk in (False, True):
        for vectors in (False, True):
            parameters = [
                parameter
                for name, parameter in learner.named_parameters()
                if _in_trunk(name) == trunk and (parameter.ndim <= 1) == vectors
            ]
            base_lr = config.lr * (config.trunk_lr if trunk else 1.0)
            decay = 0.0 if vectors and not config.decay_vectors else config.weight_decay
            if parameters:
                yield {
                    "params": parameters,
                    "weight_decay": decay,
                    "lr": base_lr,
                    "base_lr": base_lr,
                }


def _in_trunk(name: str) -> bool:
    """Whether a parameter belongs to a pretrained trunk by the networks' naming."""
    return "backbone" in name or "trunk" in name
