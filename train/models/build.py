"""The network of a configuration."""

from collections.abc import Callable

from .config import (
    GeoDTRConfig,
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)
from .geodtr import GeoDTR, GeoDTRDrone, GeoDTRPlus
from .mfrgn import MFRGN, MFRGNDrone
from .network import Network
from .sample4geo import Sample4Geo
from .three_view import University1652

NETWORKS: dict[type[NetworkConfig], Callable[..., Network]] = {
    GeoDTRConfig: GeoDTR,
    GeoDTRPlusConfig: GeoDTRPlus,
    GeoDTRPlusDroneConfig: GeoDTRDrone,
    MFRGNConfig: MFRGN,
    MFRGNDroneConfig: MFRGNDrone,
    University1652Config: University1652,
    Sample4GeoConfig: Sample4Geo,
}


def build_network(config: NetworkConfig, input_px: InputSizes) -> Network:
    """A network with fresh weights for views of these sizes; raises InputError."""
    return NETWORKS[type(config)](config, input_px)
