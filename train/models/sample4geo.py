"""Sample4Geo (ICCV 2023): one ConvNeXt for both views, its last map averaged and normalised.

    descriptor = unit(LayerNorm(mean over places of S4))

Nothing depends on the size of the images, so the views may differ in it.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .config import InputSizes, Sample4GeoConfig
from .convnext import NORM_EPS, ConvNeXt
from .network import Encoded, Network
from .recognise import convnext_in

UNUSED_OFFICIAL = ("logit_scale",)  # the loss holds the temperature


class Sample4Geo(Network):
    """Descriptors as wide as the backbone's last stage."""

    def __init__(self, config: Sample4GeoConfig, input_px: InputSizes) -> None:
        super().__init__(input_px)
        self.model = PooledConvNeXt(config.backbone, layer_scale=config.layer_scale)

    def encode(self, view: str, images: torch.Tensor) -> Encoded:  # noqa: ARG002  views share all
        """Encode images (B, 3, H, W)."""
        return Encoded(F.normalize(self.features(images).float(), dim=1))  # (B, C)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, C) of images (B, 3, H, W), not normalised."""
        return torch.as_tensor(self.model(images))


class PooledConvNeXt(ConvNeXt):
    """timm's ConvNeXt without classes: the head is a norm of the pooled map."""

    def __init__(self, size: str, layer_scale: float) -> None:
        super().__init__(size, layer_scale=layer_scale)
        self.head = nn.Sequential(OrderedDict(norm=nn.LayerNorm(self.widths[-1], eps=NORM_EPS)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to features (B, C)."""
        last = self.forward_features(images)[-1]  # (B, C, H/32, W/32)
        return torch.as_tensor(self.head(last.mean(dim=(2, 3))))


def state_from_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our state dict of a published one; the names are the same."""
    return {key: value for key, value in state.items() if key not in UNUSED_OFFICIAL}


def config_from_official(state: Mapping[str, torch.Tensor]) -> Sample4GeoConfig:
    """What the shapes of a published state dict tell; raises ModelError."""
    return Sample4GeoConfig(backbone=convnext_in(state, "model."))
