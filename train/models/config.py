"""Which network: one struct an architecture, told apart by `architecture` in YAML and JSON.

Defaults are what the published code runs with; models whose name ends in `_drone` are of one
branch that both views share. Input sizes are no part of a network's configuration but of the
run's (`input_px`: view -> height and width), since one architecture serves several data sets.
"""

from typing import Literal

import msgspec

ConvNeXtName = Literal[
    "convnext_atto",
    "convnext_femto",
    "convnext_pico",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
]
ResNetName = Literal["resnet18", "resnet34", "resnet50"]
PyramidName = ConvNeXtName | ResNetName

InputSizes = dict[str, tuple[int, int]]  # view -> (H, W) in pixels


class _Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="architecture"):
    """What all have in common: an unknown key is refused."""


class GeoDTRConfig(_Network, frozen=True, tag="geodtr"):
    """GeoDTR (AAAI 2023): ResNet-34, layout extractor of version 1."""

    backbone: Literal["resnet34"] = "resnet34"
    layouts: int = 8
    layers: int = 2
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.3


class GeoDTRPlusConfig(_Network, frozen=True, tag="geodtr_plus"):
    """GeoDTR+ (TPAMI 2024): layout extractor of version 2, nothing shared between the views."""

    backbone: Literal["convnext_tiny", "resnet34"] = "convnext_tiny"
    layouts: int = 8
    layers: int = 2
    heads: int = 4
    feedforward: int = 512
    dropout: float = 0.3
    bottleneck: bool = True
    normalize: bool = False  # layouts of unit length over the places; there is no sigmoid then
    orthogonalize: bool = False  # where normalised, also orthogonal to each other (QR)


class GeoDTRPlusDroneConfig(_Network, frozen=True, tag="geodtr_plus_drone"):
    """Our drone variant of GeoDTR+: square inputs, one branch for both views."""

    backbone: ConvNeXtName = "convnext_tiny"
    layer_scale: float = 1e-6  # ConvNeXt's start value; 1e-6 suits 300 epochs, 0.1 short runs
    layouts: int = 8
    dropout: float = 0.3
    projection: int | None = None  # linear map to this many dimensions


class MFRGNConfig(_Network, frozen=True, tag="mfrgn"):
    """MFRGN (ACM MM 2024), two views: a shared backbone, the rest of each view's own."""

    backbone: PyramidName = "convnext_base"
    layer_scale: float = 1e-6
    pps: bool = True  # pyramid pooling sampling of the finest scale; False keeps all its places
    attention: Literal["linear", "softmax"] = "linear"
    feedforward: int = 1024  # the published code; the paper says 2048
    dropout: float = 0.3


class MFRGNDroneConfig(_Network, frozen=True, tag="mfrgn_drone"):
    """MFRGN's drone variant (TimmModel_u): square inputs, everything shared."""

    backbone: PyramidName = "convnext_base"
    layer_scale: float = 1e-6
    pps: bool = True
    attention: Literal["linear", "softmax"] = "linear"
    feedforward: int = 1024
    dropout: float = 0.3
    pooled_cells: tuple[int, ...] = (
        1,
        6,
        12,
        21,
    )  # cells a side; (1, 3, 6, 8) in the paper's Fig. 5
    global_rows: int = 14  # rows of 128 that the tokens are mapped to
    projection: int | None = None  # ours: linear map to this many dimensions


class University1652Config(_Network, frozen=True, tag="university1652"):
    """The baseline of University-1652: a trunk a view, one classification head for all."""

    backbone: Literal["resnet50", "vgg16"] = "resnet50"
    views: Literal[2, 3] = 3  # satellite and drone; or satellite, street and drone
    share: bool = True  # drone and satellite share a trunk; street always has its own
    stride: Literal[1, 2] = 2  # of the last stage of ResNet-50
    pool: Literal["avg", "max", "avg+max", "gem"] = "avg"
    classes: int = 701
    dropout: float = 0.75


class Sample4GeoConfig(_Network, frozen=True, tag="sample4geo"):
    """Sample4Geo (ICCV 2023): one pooled ConvNeXt for both views."""

    backbone: ConvNeXtName = "convnext_base"
    layer_scale: float = 1e-6


NetworkConfig = (
    GeoDTRConfig
    | GeoDTRPlusConfig
    | GeoDTRPlusDroneConfig
    | MFRGNConfig
    | MFRGNDroneConfig
    | University1652Config
    | Sample4GeoConfig
)


def architecture_name(config: NetworkConfig) -> str:
    """The word that stands for it in files: "geodtr_plus", "mfrgn_drone"..."""
    return str(config.__struct_config__.tag)
