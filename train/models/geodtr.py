"""GeoDTR (AAAI 2023) and GeoDTR+ (arXiv 2308.09624): what is there, times where it is.

    raw r = backbone(image)                  (B, C, H, W), stride 16
    layout p = GLE(r)                        (B, HW, K): where each descriptor looks
    f[c, k] = sum over places of r[c] p[k]   (B, C*K), channel-major, then unit length

K geometric layout descriptors (GLD) p are made by a geometric layout extractor (GLE, see
geodtr_layouts.py). The counterfactual descriptor takes random layouts in their stead; a loss
drives the two apart, so that layouts must carry what descriptors depend on.

    GeoDTR        ResNet-34, GLE of version 1; nothing is shared between ground and aerial view
    GeoDTRPlus    ConvNeXt-T or ResNet-34, GLE of version 2; nothing is shared either
    GeoDTRDrone   ours: one ConvNeXt branch for two square views of the same ground

The paper calls the backbones siamese and takes the last stage; the published code and the paper's
own descriptor lengths say otherwise. Ours, for patches of one ground area under two skies, are
beside the sharing a norm behind the backbone and the centring of layouts: a layout's mean over all
places weighs the mean colour of the patch, which is what season and sensor change, and before
training that mean outweighs all that tells one place from another.
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError, ModelError

from .config import GeoDTRConfig, GeoDTRPlusConfig, GeoDTRPlusDroneConfig, InputSizes
from .convnext import ChannelNorm, ConvNeXt
from .geodtr_layouts import GeometricLayoutExtractor, SaliencyLayoutExtractor
from .network import Encoded, Network, square_px
from .resnet import ResNet

STRIDE_PX = 16
MIN_SIDE_PX = 32  # a layout is of two places a side at least
STAGES = 3  # the published cut of ConvNeXt: stem and three stages
DROP_PATH = 0.1  # torchvision's default for ConvNeXt-T, which the published code trains with
DRONE_LAYERS = 2  # the published run's settings
DRONE_HEADS = 4
DRONE_FEEDFORWARD = 512
LAYOUT_LOGIT_STD = 2.0  # ours: the sigmoid then spreads over most of (0, 1)
# torchvision's children, which the published code puts in a row, by our names
RESNET_CHILDREN = {"0": "conv1", "1": "bn1", "3": "layer1", "4": "layer2", "5": "layer3",
                   "6": "layer4"}  # fmt: skip
CONVNEXT_CHILDREN = {"0": "stem", "1": "stages.0.blocks", "2": "stages.1.downsample",
                     "3": "stages.1.blocks", "4": "stages.2.downsample",
                     "5": "stages.2.blocks"}  # fmt: skip
CONVNEXT_BLOCK = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1",
                  "block.5": "mlp.fc2", "layer_scale": "gamma"}  # fmt: skip


class UnsharedNetwork(Network):
    """Two branches that share nothing; what a branch is made of is the subclass's choice."""

    def __init__(self, input_px: InputSizes) -> None:
        super().__init__(input_px)
        if set(input_px) != {"ground", "aerial"}:
            raise InputError(
                f"GeoDTR encodes the views ground and aerial; input_px names {sorted(input_px)}"
            )
        self.backbone_grd: nn.Module
        self.backbone_sat: nn.Module
        self.GLE_grd: SaliencyLayoutExtractor | GeometricLayoutExtractor
        self.GLE_sat: SaliencyLayoutExtractor | GeometricLayoutExtractor

    def encode(self, view: str, images: torch.Tensor) -> Encoded:
        """Encode images (B, 3, H, W) of "ground" or "aerial"."""
        raw = self.features(view, images).flatten(2)  # (B, C, HW)
        extractor = self.GLE_grd if view == "ground" else self.GLE_sat
        layout = extractor(raw.transpose(1, 2))  # (B, HW, K)
        descriptor = describe(raw, layout)  # (B, C*K)
        if not self.training:
            return Encoded(descriptor, layout)
        return Encoded(descriptor, layout, describe(raw, extractor.random_like(layout)))

    def features(self, view: str, images: torch.Tensor) -> torch.Tensor:
        """The backbone's map (B, C, H/16, W/16) of images (B, 3, H, W)."""
        backbone = self.backbone_grd if view == "ground" else self.backbone_sat
        return torch.as_tensor(backbone(images))

    def encode_ground(self, images: torch.Tensor) -> Encoded:
        """Encode panoramas (B, 3, H, W)."""
        return self.encode("ground", images)

    def encode_aerial(self, images: torch.Tensor) -> Encoded:
        """Encode aerial images (B, 3, H, W), polar-transformed where the network is for those."""
        return self.encode("aerial", images)


class GeoDTR(UnsharedNetwork):
    """Descriptors of 512*K dimensions."""

    def __init__(self, config: GeoDTRConfig, input_px: InputSizes) -> None:
        super().__init__(input_px)
        self.backbone_grd, self.backbone_sat = _backbone("resnet34"), _backbone("resnet34")
        self.GLE_grd = self._extractor(config, input_px["ground"])
        self.GLE_sat = self._extractor(config, input_px["aerial"])

    @staticmethod
    def _extractor(config: GeoDTRConfig, size_px: tuple[int, int]) -> SaliencyLayoutExtractor:
        places = places_of("resnet34", size_px)
        if places // 2 % config.heads:
            raise InputError(
                f"GeoDTR's transformer is {places // 2} wide for images of {size_px} px, half as "
                f"many as places; {config.heads} heads do not divide that: take another size or "
                "number of heads"
            )
        return SaliencyLayoutExtractor(
            places, config.layouts, config.layers, config.heads, config.feedforward, config.dropout
        )


class GeoDTRPlus(UnsharedNetwork):
    """Descriptors of 384*K (ConvNeXt-T) or 512*K (ResNet-34) dimensions."""

    def __init__(self, config: GeoDTRPlusConfig, input_px: InputSizes) -> None:
        super().__init__(input_px)
        self.backbone_grd, self.backbone_sat = (
            _backbone(config.backbone),
            _backbone(config.backbone),
        )
        width = self.backbone_grd.widths[-1]
        self.GLE_grd = self._extractor(config, width, input_px["ground"])
        self.GLE_sat = self._extractor(config, width, input_px["aerial"])

    @staticmethod
    def _extractor(
        config: GeoDTRPlusConfig, width: int, size_px: tuple[int, int]
    ) -> GeometricLayoutExtractor:
        if width % config.heads:
            raise InputError(f"{config.heads} heads do not divide the transformer's width {width}")
        places = places_of(config.backbone, size_px)
        if config.orthogonalize and places <= config.layouts:
            raise InputError(
                f"images of {size_px} px have {places} places: no {config.layouts} layouts are "
                "orthogonal there; take larger images or fewer layouts"
            )
        return GeometricLayoutExtractor(
            width,
            places,
            config.layouts,
            config.layers,
            config.heads,
            config.feedforward,
            config.dropout,
            config.bottleneck,
            config.normalize,
            config.orthogonalize,
        )


class GeoDTRDrone(Network):
    """Descriptors of C*K dimensions, or of `projection` where given."""

    def __init__(self, config: GeoDTRPlusDroneConfig, input_px: InputSizes) -> None:
        super().__init__(input_px)
        side = square_px(input_px)
        self.backbone = ConvNeXt(config.backbone, STAGES, config.layer_scale)
        width = self.backbone.widths[-1]
        self.norm = ChannelNorm(width)
        self.GLE = GeometricLayoutExtractor(
            width,
            places_of(config.backbone, (side, side)),
            config.layouts,
            DRONE_LAYERS,
            DRONE_HEADS,
            DRONE_FEEDFORWARD,
            config.dropout,
        )
        # layouts start as K different pictures, not as K constants
        nn.init.normal_(self.GLE.b2, std=LAYOUT_LOGIT_STD)
        self.projection = (
            nn.Linear(width * config.layouts, config.projection)
            if config.projection is not None
            else nn.Identity()
        )

    def encode(self, view: str, images: torch.Tensor) -> Encoded:  # noqa: ARG002  views share all
        """Encode images (B, 3, P, P)."""
        raw = self.features(images).flatten(2)  # (B, C, HW)
        layout = self.GLE(raw.transpose(1, 2))  # (B, HW, K)
        descriptor = self._described(raw, layout)
        if not self.training:
            return Encoded(descriptor, layout)
        return Encoded(descriptor, layout, self._described(raw, self.GLE.random_like(layout)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The normalised map (B, C, P/16, P/16) of images (B, 3, P, P)."""
        return torch.as_tensor(self.norm(self.backbone(images)))

    def _described(self, raw: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        centred = layout - layout.mean(dim=1, keepdim=True)  # (B, HW, K)
        product = torch.bmm(raw, centred.to(raw.dtype))  # (B, C, K)
        return F.normalize(self.projection(product.flatten(1)).float(), dim=1)


def describe(raw: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
    """Unit descriptors (B, C*K) of features (B, C, HW) seen through layouts (B, HW, K)."""
    product = torch.bmm(raw, layout.to(raw.dtype))  # (B, C, K)
    return F.normalize(product.flatten(1).float(), dim=1)


def places_of(backbone: str, size_px: tuple[int, int]) -> int:
    """How many places the feature map of an image (H, W) has: 256 for 256 x 256 px."""
    if min(size_px) < MIN_SIDE_PX:
        raise InputError(f"images of {size_px} px are too small: {MIN_SIDE_PX} px a side at least")
    up = STRIDE_PX - 1 if backbone.startswith("resnet") else 0  # padded convolutions round up
    return ((size_px[0] + up) // STRIDE_PX) * ((size_px[1] + up) // STRIDE_PX)


def config_from_official(
    state: Mapping[str, torch.Tensor],
) -> GeoDTRConfig | GeoDTRPlusConfig:
    """What the shapes of a published state dict tell; the rest keeps its default.

    They do not tell heads, dropout, bottleneck (its maps are there either way), normalize and
    orthogonalize. Raises ModelError.
    """
    if "ge_sat.w1" in state:
        default = GeoDTRConfig()
        layers, inner = _transformer(state, "ge_sat.tr_module.transformer_encoder.layers.")
        return GeoDTRConfig(
            layouts=state["ge_sat.w1"].shape[1],
            layers=layers,
            feedforward=inner or default.feedforward,
        )
    if "GLE_sat.pointwise.weight" in state:
        plus = GeoDTRPlusConfig()
        layers, inner = _transformer(state, "GLE_sat.transformer_encoder.layers.")
        resnet = any(key.startswith("backbone_sat.layers.") for key in state)
        return GeoDTRPlusConfig(
            backbone="resnet34" if resnet else "convnext_tiny",
            layouts=state["GLE_sat.pointwise.weight"].shape[0],
            layers=layers,
            feedforward=inner or plus.feedforward,
        )
    raise ModelError(
        "these are weights of neither GeoDTR (ge_sat.*) nor GeoDTR+ (GLE_sat.*): the first is "
        f"{next(iter(state), 'missing')}. Name the system they are of with --from."
    )


def state_from_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published key names to ours: torchvision's backbones, and ge_* of version 1 as GLE_*."""
    ours = {}
    for key, value in state.items():
        name = _our_name(key)
        ours[name] = value.flatten() if name.endswith(".gamma") else value  # (C, 1, 1) there
    return ours


def _transformer(state: Mapping[str, torch.Tensor], prefix: str) -> tuple[int, int]:
    """Its layers and their inner width; both are 0 where there is none."""
    widths = [
        len(value)
        for key, value in state.items()
        if key.startswith(prefix) and key.endswith(".linear1.weight")
    ]
    return len(widths), max(widths, default=0)


def _our_name(key: str) -> str:
    """ResNet's layers.3.0.conv1 is our layer1.0.conv1, ConvNeXt's net.5.8.block.3 our fc1."""
    if match := re.fullmatch(r"(backbone_\w+)\.layers\.([013456])\.(.+)", key):
        return f"{match[1]}.{RESNET_CHILDREN[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"(backbone_\w+)\.net\.([0-5])\.(.+)", key):
        rest = re.sub(r"block\.[0235]|layer_scale", lambda part: CONVNEXT_BLOCK[part[0]], match[3])
        return f"{match[1]}.{CONVNEXT_CHILDREN[match[2]]}.{rest}"
    return re.sub(r"^ge_", "GLE_", key)


def _backbone(name: Literal["convnext_tiny", "resnet34"]) -> ConvNeXt | ResNet:
    """A trunk of stride 16."""
    if name == "resnet34":
        return ResNet(name, max_pool=False)
    return ConvNeXt(name, STAGES, drop_path=DROP_PATH)
