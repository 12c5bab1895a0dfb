"""One file a network, and the choice among them."""

from skyfix.runtime.errors import InputError

from ..config import ModelConfig
from .encoded import Encoded
from .geodtr import GeoDTRDrone
from .mfrgn import MFRGNDrone

__all__ = ["Encoded", "GeoDTRDrone", "MFRGNDrone", "build_model"]


def build_model(config: ModelConfig, input_px: int) -> GeoDTRDrone | MFRGNDrone:
    """The network of a configuration, for square patches of `input_px`."""
    if config.architecture == "geodtr_plus_drone":
        return GeoDTRDrone(
            config.backbone,
            input_px,
            config.layouts,
            config.projection,
            dropout=config.dropout,
            layer_scale=config.layer_scale,
        )
    if config.architecture == "mfrgn_drone":
        return MFRGNDrone(config.backbone, input_px, config.dropout, config.layer_scale)
    raise InputError(
        f"architecture {config.architecture!r} is unknown; take geodtr_plus_drone or mfrgn_drone"
    )
