"""What a run's network begins with: another checkpoint's weights, or pretrained trunks.

Published recipes start from ImageNet. Their weight files are no part of skyfix; any file with the
key names of timm or torchvision serves, of a whole classifier too: its head is left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from skyfix.runtime.errors import InputError, ModelError

from .checkpoint import differences, fill, load_checkpoint
from .config import RunConfig
from .models.build import build_network
from .models.convnext import ConvNeXt
from .models.geodtr import CONVNEXT_BLOCK
from .models.resnet import ResNet
from .models.vgg import VGG16
from .official import official_state

Weights = dict[str, torch.Tensor]
STEPS_OF_A_NORM = "num_batches_tracked"  # files of torchvision's first years have none

Trunk = ConvNeXt | ResNet | VGG16


def first_weights(config: RunConfig, start: Path | None, trunk: Path | None) -> Weights | None:
    """The network's first weights, or None where it begins from scratch.

    Args:
        config: of the run.
        start: folder of a checkpoint of the same network.
        trunk: file of a pretrained trunk. Both at once raise InputError.
    """
    if start is not None and trunk is not None:
        raise InputError("--from brings all weights, a trunk's too: leave --trunk out")
    if start is None and trunk is None:
        return None
    network = build_network(config.model, config.input_px)
    if start is not None:
        fill(network, load_checkpoint(start).weights, str(start))
    elif trunk is not None:
        pretrained = official_state(trunk)
        for module in trunks(network):
            module.load_state_dict(trunk_state(module, pretrained, trunk))
    return network.state_dict()


def trunks(network: nn.Module) -> Iterator[Trunk]:
    """All trunks of a network."""
    for module in network.modules():
        if isinstance(module, ConvNeXt | ResNet | VGG16):
            yield module


def trunk_state(trunk: Trunk, pretrained: Weights, source: Path) -> Weights:
    """What a trunk takes of a pretrained classifier; raises ModelError where something lacks."""
    expected = trunk.state_dict()
    renamed = _our_name if isinstance(trunk, ConvNeXt) else str
    named = {key: value for key, value in expected.items() if key.endswith(STEPS_OF_A_NORM)}
    named |= {renamed(key): value for key, value in pretrained.items()}
    stages = {_stage(key) for key in expected}
    taken = {
        key: _shaped(value, expected.get(key, value))
        for key, value in named.items()
        if _stage(key) in stages
    }
    faults = differences(expected, taken)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            f"{source} is no pretrained {type(trunk).__name__} of the configuration's size: "
            f"{'; '.join(faults[:3])}{more}. Take a file with timm's or torchvision's key names, "
            "of the backbone that the configuration names"
        )
    return taken


def _stage(key: str) -> str:
    """Where a weight belongs, head and later stages apart: "stages.2", "layer4", "stem"."""
    parts = key.split(".")
    return ".".join(parts[:2] if parts[0] in {"stages", "head"} else parts[:1])


def _shaped(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Layer scales and 1x1 kernels have unit axes in one naming or the other."""
    same = weight.squeeze().shape == like.squeeze().shape
    return weight.reshape(like.shape) if same else weight


def _our_name(key: str) -> str:
    """From torchvision's ConvNeXt, whose stem, stages and downsamplings share one count."""
    if key.startswith("classifier.0."):
        return key.replace("classifier.0", "head.norm")
    match = re.fullmatch(r"features\.(\d)\.(.+)", key)
    if match is None:
        return key
    place, rest = int(match[1]), match[2]
    if place == 0:
        return f"stem.{rest}"
    if place % 2 == 0:
        return f"stages.{place // 2}.downsample.{rest}"
    inner = re.sub(r"block\.[0235]|layer_scale", lambda part: CONVNEXT_BLOCK[part[0]], rest)
    return f"stages.{place // 2}.blocks.{inner}"
