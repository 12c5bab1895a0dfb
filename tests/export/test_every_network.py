"""Every branch of every network through the whole export, in fp16."""

from pathlib import Path

import onnx
import pytest
import torch

from skyfix.export.attention import attention_nodes
from skyfix.export.branches import branches_of, flight_px
from skyfix.export.onnx import Plan, model_from_checkpoint
from skyfix.export.operators import element_types, operators_outside
from skyfix.export.precision import FULL
from skyfix.runtime.engines.base import ModelCard
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, load_network, save_checkpoint
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
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

PAIR: InputSizes = {"ground": (64, 128), "aerial": (64, 64)}


def squares(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


def written(folder: Path, config: NetworkConfig, input_px: InputSizes) -> Path:
    """A checkpoint of fresh weights, as imported ones are: of no run of ours."""
    torch.manual_seed(0)
    weights = build_network(config, input_px).state_dict()
    record = CheckpointRecord(SCHEMA, config, input_px, source="published.pth")
    save_checkpoint(folder, record, weights)
    return folder


ARCHITECTURES: dict[str, tuple[NetworkConfig, InputSizes, int]] = {  # the last: attention layers
    "mfrgn": (
        MFRGNConfig("convnext_atto", 0.1, feedforward=64),
        {"ground": (64, 256), "aerial": (128, 128)}, 3,
    ),
    "mfrgn_resnet": (MFRGNConfig("resnet18", pps=False, feedforward=64), PAIR, 3),
    "mfrgn_softmax": (MFRGNConfig("convnext_atto", 0.1, attention="softmax"), PAIR, 0),
    "mfrgn_drone": (MFRGNDroneConfig("convnext_atto", 0.1, projection=32), squares(64), 3),
    "sample4geo": (Sample4GeoConfig("convnext_atto", 0.1), PAIR, 0),
    "geodtr": (GeoDTRConfig(layouts=2, layers=1, feedforward=32), PAIR, 0),
    "geodtr_plus": (GeoDTRPlusConfig(layouts=2, layers=1, feedforward=32), PAIR, 0),
    "geodtr_plus_normalize": (
        GeoDTRPlusConfig("resnet34", 2, 1, feedforward=32, normalize=True), PAIR, 0,
    ),
    "geodtr_plus_drone": (GeoDTRPlusDroneConfig("convnext_atto", 0.1, layouts=2), squares(32), 0),
    "university": (University1652Config(classes=3), squares(32) | {"street": (32, 64)}, 0),
    "university_vgg": (
        University1652Config("vgg16", views=2, classes=3, pool="gem"), squares(32), 0,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("plugin", [True, False], ids=["plugin", "no-plugin"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_branch_of_every_network_passes_in_fp16_and_stays_inside_tensorrts_list(
    name: str, plugin: bool, tmp_path: Path
) -> None:
    config, sizes, layers = ARCHITECTURES[name]
    folder, model_folder = written(tmp_path / "c", config, sizes), tmp_path / "m"
    flies = flight_px(branches_of(load_network(folder)))
    card, written_graphs = model_from_checkpoint(
        folder, model_folder, gsd_m=0.5 if flies else None, plan=Plan("fp16", plugin=plugin)
    )
    for file, graph in written_graphs.items():
        assert graph.engine_parity is not None
        assert min(graph.parity.cosine, graph.engine_parity.cosine) >= 0.9999
        plain = onnx.load(model_folder / file)
        assert len(attention_nodes(plain)) == layers
        assert norms_outside_fp32(plain) == []
        variant = (model_folder / file).with_suffix(".trt.onnx")
        differs = layers > 0 or isinstance(card, ModelCard)
        assert variant.exists() == differs
        model = onnx.load(variant) if differs else plain
        assert not model.functions
        assert len(attention_nodes(model)) == layers * plugin
        assert operators_outside(model, plugin=plugin) == []


def norms_outside_fp32(model: onnx.ModelProto) -> list[str]:
    """Names of the LayerNormalizations and softmaxes that compute in another type than fp32."""
    types = element_types(model)
    exact = {"LayerNormalization", "InstanceNormalization", "Softmax", "ReduceL2"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in exact and types[node.input[0]] != FULL
    ]
