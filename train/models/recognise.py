"""Which backbone a state dict holds: its depths and widths, read off timm's parameter names."""

from collections.abc import Mapping
from typing import get_args

import torch

from skyfix.runtime.errors import ModelError

from . import convnext, resnet
from .config import ConvNeXtName, PyramidName, ResNetName

STAGES = range(4)


def backbone_in(state: Mapping[str, torch.Tensor], prefix: str) -> PyramidName:
    """The ConvNeXt or ResNet whose parameters begin with `prefix`; raises ModelError."""
    if f"{prefix}conv1.weight" in state:
        return _resnet_in(state, prefix)
    return convnext_in(state, prefix)


def convnext_in(state: Mapping[str, torch.Tensor], prefix: str) -> ConvNeXtName:
    """The ConvNeXt whose parameters begin with `prefix`; raises ModelError."""
    depths = tuple(_depth(state, f"{prefix}stages.{i}.blocks", "gamma") for i in STAGES)
    if all(depths):
        widths = tuple(len(state[f"{prefix}stages.{i}.blocks.0.gamma"]) for i in STAGES)
        for name in get_args(ConvNeXtName):
            if convnext.SIZES[name] == (depths, widths):
                return name  # type: ignore[no-any-return]  # get_args knows no literals
    raise ModelError(_unknown(prefix, depths))


def _resnet_in(state: Mapping[str, torch.Tensor], prefix: str) -> ResNetName:
    depths = tuple(_depth(state, f"{prefix}layer{i + 1}", "conv1.weight") for i in STAGES)
    last = "conv3" if f"{prefix}layer1.0.conv3.weight" in state else "conv2"
    if all(depths):
        widths = tuple(len(state[f"{prefix}layer{i + 1}.0.{last}.weight"]) for i in STAGES)
        for name, size in resnet.SIZES.items():
            if size == (depths, widths):
                return name
    raise ModelError(_unknown(prefix, depths))


def _depth(state: Mapping[str, torch.Tensor], stage: str, leaf: str) -> int:
    """How many blocks of a stage there are: those of which the state has `leaf`."""
    depth = 0
    while f"{stage}.{depth}.{leaf}" in state:
        depth += 1
    return depth


def _unknown(prefix: str, depths: tuple[int, ...]) -> str:
    return (
        f'the weights under "{prefix}" are those of no backbone known here (blocks a stage: '
        f"{depths}); is this a checkpoint of the system that was named?"
    )
