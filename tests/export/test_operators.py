import onnx
import pytest

from skyfix.export.operators import OPSETS, operators_outside, table


def parsed(body: str, opset: int = 20) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}, "other": 1]>'
        "g (float[B, 3, 4, 4] patch) => (float[B, 3, 4, 4] descriptor)" + body
    )


def test_the_table_has_what_the_networks_are_made_of_and_not_what_came_later() -> None:
    assert {"Conv", "MatMul", "LayerNormalization", "Gelu", "QuantizeLinear"} <= table().keys()
    # by onnx-tensorrt's changelog: 10.4, 10.4, 10.4, 10.5; and two that it has never had till 10.6
    later = {"BlackmanWindow", "HammingWindow", "HannWindow", "STFT", "Unique", "MatMulInteger"}
    assert later.isdisjoint(table())
    assert len(table()) == 150
    assert "INT8" not in table()["Conv"].types
    assert (OPSETS[0], OPSETS[-1]) == (9, 20)


def test_every_name_of_the_table_is_one_of_onnx_or_of_the_parsers_own() -> None:
    own = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert table().keys() - names == own


def test_a_graph_of_its_operators_has_none_outside() -> None:
    assert operators_outside(parsed("{ a = Relu (patch)  descriptor = Sigmoid (a) }")) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("{ [odd] descriptor = Det (patch) }", "Det odd (not in the table)"),
        ("{ [odd] descriptor = other.Relu (patch) }", "Relu odd (of other)"),
        (
            "{ whole = Cast <to = 5> (patch)  [odd] descriptor = Cast <to = 1> (whole) }",
            "Cast odd (of INT16)",
        ),
        (
            "{ axes = Shape (patch)  [odd] descriptor = ReduceMax (patch, axes) }",
            "ReduceMax odd (axes is computed)",
        ),
    ],
    ids=["name", "domain", "type", "computed axes"],
)
def test_what_is_outside_is_named_with_its_node_and_the_reason(body: str, found: str) -> None:
    assert found in operators_outside(parsed(body))


def test_an_opset_beyond_the_parsers_is_outside() -> None:
    body = "{ descriptor = Relu (patch) }"
    assert operators_outside(parsed(body, opset=9)) == []
    assert operators_outside(parsed(body, opset=21)) == ["opset 21 (TensorRT 10.3 takes 9 to 20)"]
