"""`skyfix models NAME`: how large a network is, and how much it computes a picture.

A network is made on torch's meta device, where shapes flow and numbers do not: counting is instant
whatever its size. One MAC is a multiplication with its addition; papers often call it a FLOP.
Counted are convolutions, linear maps and matrix products, attention's included.
"""

from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from skyfix.runtime.errors import InputError

from .checkpoint import RECORD_NAME, load_record
from .config import config_from_yaml
from .models.build import NETWORKS, build_network
from .models.config import InputSizes, NetworkConfig, architecture_name
from .models.network import Network
from .official import SYSTEMS

FLOPS_A_MAC = 2
DRONE_PX = 256  # of the drone variants that no data set of a paper fixes


class BranchFigures(msgspec.Struct, frozen=True):
    """What one view's branch costs."""

    view: str
    input_px: tuple[int, int]
    parameters: int  # also where another view shares them
    macs: int  # a picture
    dimension: int


class NetworkFigures(msgspec.Struct, frozen=True):
    """What a network costs; branches may share parameters."""

    network: NetworkConfig
    parameters: int
    branches: list[BranchFigures]


def print_network(name: str, *, json_output: bool) -> None:
    """Print the figures of an architecture's name, a training YAML or a checkpoint folder."""
    figures = figures_of(*network_named(name))
    if json_output:
        print(msgspec.json.encode(figures).decode())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(architecture_name(figures.network), style="bold")
    for heading in ("input px", "parameters", "GMAC", "numbers"):
        table.add_column(heading, justify="right")
    for branch in figures.branches:
        table.add_row(
            branch.view,
            "{}x{}".format(*branch.input_px),
            f"{branch.parameters / 1e6:.2f} M",
            f"{branch.macs / 1e9:.2f}",
            str(branch.dimension),
        )
    table.add_row("all", "", f"{figures.parameters / 1e6:.2f} M", "", "")
    Console().print(table)
    print(msgspec.json.encode(figures.network).decode())


def network_named(name: str) -> tuple[NetworkConfig, InputSizes]:
    """Configuration and input sizes; raises InputError that lists what there is."""
    if (Path(name) / RECORD_NAME).is_file():
        record = load_record(Path(name))
        return record.network, record.input_px
    if name.endswith((".yaml", ".yml")):
        run = config_from_yaml(Path(name))
        return run.model, run.input_px
    for kind in NETWORKS:
        if kind.__struct_config__.tag == name:
            drone = dict.fromkeys(("drone", "satellite"), (DRONE_PX, DRONE_PX))
            return kind(), SYSTEMS[name].sizes_px[0] if name in SYSTEMS else drone
    known = ", ".join(str(kind.__struct_config__.tag) for kind in NETWORKS)
    raise InputError(
        f"{name!r} is no network, training YAML or checkpoint folder; networks are {known}"
    )


def figures_of(config: NetworkConfig, input_px: InputSizes) -> NetworkFigures:
    """Parameters and MACs, counted on the meta device."""
    with torch.device("meta"):
        network = build_network(config, input_px).eval()
    branches = [branch_figures(network, view) for view in network.views]
    return NetworkFigures(config, sum(p.numel() for p in network.parameters()), branches)


def branch_figures(network: Network, view: str) -> BranchFigures:
    """What encoding one picture of a view takes."""
    images = torch.empty(1, 3, *network.input_px[view], device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.encode(view, images)
    descriptor = network.encode(view, images).descriptor
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    reached = torch.autograd.grad(descriptor.sum(), learned, allow_unused=True)
    used = (p for p, gradient in zip(learned, reached, strict=True) if gradient is not None)
    return BranchFigures(
        view,
        network.input_px[view],
        sum(parameter.numel() for parameter in used),
        counter.get_total_flops() // FLOPS_A_MAC,
        descriptor.shape[1],
    )
