from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
)
from skyfix.train.models.network import Network

PAIR = {"ground": (64, 128), "aerial": (64, 64)}
DRONE = {"drone": (64, 64)}
# the exporter takes ten seconds and more for the larger ones; GeoDTR and University-1652 are
# exported beside their own tests
CASES: dict[str, tuple[NetworkConfig, InputSizes, str]] = {
    "mfrgn_ground": (MFRGNConfig("convnext_atto", 0.1), PAIR, "ground"),
    "mfrgn_aerial": (MFRGNConfig("resnet18"), PAIR, "aerial"),
    "mfrgn_whole": (
        MFRGNConfig("convnext_atto", 0.1, pps=False, attention="softmax"), PAIR, "ground",
    ),
    "mfrgn_drone": (MFRGNDroneConfig("convnext_atto", 0.1, projection=64), DRONE, "drone"),
    "sample4geo": (Sample4GeoConfig("convnext_atto", 0.1), PAIR, "ground"),
}  # fmt: skip
FAST = "sample4geo"


class Descriptors(nn.Module):
    """One view of a network."""

    def __init__(self, network: Network, view: str) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.encode(self.view, images).descriptor


@pytest.mark.filterwarnings("ignore::Warning")  # torch's exporter warns about its own parts
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != FAST)) for name in CASES]
)
def test_one_onnx_graph_of_any_batch_gives_torchs_descriptors(name: str, tmp_path: Path) -> None:
    config, input_px, view = CASES[name]
    model, path = Descriptors(build_network(config, input_px), view).eval(), tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (torch.randn(2, 3, *input_px[view]),),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=["descriptor"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["descriptor"]
    for batch in (1, 5):
        images = torch.randn(batch, 3, *input_px[view])
        with torch.no_grad():
            expected = model(images).numpy()
        (actual,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(actual, expected, atol=1e-4)
