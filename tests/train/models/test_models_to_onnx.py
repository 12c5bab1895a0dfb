from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from skyfix.train.models import GeoDTRDrone, MFRGNDrone


@pytest.mark.filterwarnings("ignore::Warning")  # torch's exporter warns about its own parts
@pytest.mark.parametrize(
    "model",
    [GeoDTRDrone("atto", 128, projection=256, layer_scale=0.1), MFRGNDrone("atto", 128)],
    ids=["geodtr", "mfrgn"],
)
def test_one_onnx_graph_of_any_batch_gives_torchs_descriptors(
    model: nn.Module, tmp_path: Path
) -> None:
    model.eval()
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (torch.randn(2, 3, 128, 128),),
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
        images = torch.randn(batch, 3, 128, 128)
        with torch.no_grad():
            expected = model(images).descriptor.numpy()
        (actual,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(actual, expected, atol=1e-4)
