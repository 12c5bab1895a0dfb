"""The branches of a network as they leave torch: which view is which, and which share a graph.

`query` is what is asked about (the camera's, drone's or ground image), `map` what answers (the
map's, satellite or aerial image); `street` is University-1652's third view, which no flight uses.
"""

from dataclasses import dataclass

import torch
from torch import nn

from skyfix.train.models.network import Network

BRANCHES = {
    "camera": "query", "drone": "query", "ground": "query",
    "map": "map", "satellite": "map", "aerial": "map",
    "street": "street",
}  # fmt: skip
FLOWN_VIEWS = {"camera", "drone", "map", "satellite"}  # seen from above, by both branches
SHARED_GRAPH = "encoder.onnx"


@dataclass(frozen=True)
class Branch:
    """One view of a network, and the file of its graph."""

    name: str  # "query", "map" or "street"
    view: str
    file: str  # two branches that compute the same name the same file
    size_px: tuple[int, int]  # (H, W)


class DescriptorOnly(nn.Module):
    """A network as exported: images of one view in, unit descriptors out."""

    def __init__(self, network: Network, view: str) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, D)."""
        descriptor: torch.Tensor = self.network.encode(self.view, patch).descriptor
        return descriptor


def branches_of(network: Network) -> tuple[Branch, ...]:
    """The branches of a network in the order of its views."""
    views = {BRANCHES[view]: view for view in network.views}
    shared = _compute_the_same(network, views["query"], views["map"])
    return tuple(
        Branch(
            name,
            view,
            SHARED_GRAPH if shared and name != "street" else f"{name}.onnx",
            network.input_px[view],
        )
        for name, view in views.items()
    )


def flight_px(branches: tuple[Branch, ...]) -> int | None:
    """The side of the patches that a flight would give it; None where it cannot fly."""
    flown = [branch for branch in branches if branch.name != "street"]
    sides = {side for branch in flown for side in branch.size_px}
    if len(sides) != 1 or not FLOWN_VIEWS.issuperset(branch.view for branch in flown):
        return None
    return sides.pop()


@torch.no_grad()
def _compute_the_same(network: Network, first: str, second: str) -> bool:
    """Whether two views of one size give one image the very same descriptor."""
    if network.input_px[first] != network.input_px[second]:
        return False
    image = torch.randn(1, 3, *network.input_px[first], generator=torch.Generator().manual_seed(0))
    return torch.equal(*(network.encode(view, image).descriptor for view in (first, second)))
