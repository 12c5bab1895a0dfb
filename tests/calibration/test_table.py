from pathlib import Path

import msgspec
import pytest

from skyfix.calibration.table import (
    METHODS,
    TABLE_SCHEMA,
    CalibrationTable,
    FramesRecord,
    GraphCalibration,
    LayerCalibration,
    Ranges,
    Similarity,
    graph_calibration,
    method_from_text,
    read_table,
    scale_from_range,
)
from skyfix.runtime.engines.built import file_sha256
from skyfix.runtime.errors import InputError, ModelError
from skyfix.runtime.files import write_json


@pytest.fixture
def table(folder: Path) -> CalibrationTable:
    layer = LayerCalibration(
        output="fc1", label="fc1", kind="MatMul", activation="last", kept=False,
        ranges=Ranges(4.0, 3.0, 2.0, 1.0), scale=scale_from_range(4.0),
        alone=Similarity(16, 0.999, 0.998, 1.0, 0.9, 0.95),
    )  # fmt: skip
    graph = GraphCalibration(file_sha256(folder / "both.onnx"), [layer])
    return CalibrationTable(
        schema=TABLE_SCHEMA, model_id="0" * 16, method="minmax",
        frames=FramesRecord(16, 20, "0" * 64), graphs={"both.onnx": graph},
    )  # fmt: skip


def test_a_table_comes_back_as_it_was_written(tmp_path: Path, table: CalibrationTable) -> None:
    write_json(tmp_path / "table.json", table)
    assert read_table(tmp_path / "table.json") == table
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["table.json"]


def test_each_method_has_its_range(table: CalibrationTable) -> None:
    ranges = table.graphs["both.onnx"].layers[0].ranges
    assert [ranges.of(method) for method in METHODS] == [4, 3, 2, 1]
    assert method_from_text("mse") == "mse"
    with pytest.raises(InputError, match="choose among minmax, percentile, entropy, mse"):
        method_from_text("max")


def test_a_scale_times_127_is_the_range() -> None:
    assert scale_from_range(12.7) * 127 == pytest.approx(12.7)
    with pytest.raises(ValueError, match="no scale"):
        scale_from_range(0.0)


def test_the_graph_that_was_calibrated_finds_its_layers(
    folder: Path, table: CalibrationTable
) -> None:
    assert graph_calibration(table, folder / "both.onnx") is table.graphs["both.onnx"]


def test_a_graph_of_other_bytes_is_refused(folder: Path, table: CalibrationTable) -> None:
    with (folder / "both.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="calibrated for another graph"):
        graph_calibration(table, folder / "both.onnx")


def test_a_graph_that_the_table_does_not_hold_is_refused(
    folder: Path, table: CalibrationTable
) -> None:
    with pytest.raises(ModelError, match=r"nothing for query\.onnx"):
        graph_calibration(table, folder / "query.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no calibration table"),
        (b'{"schema": 1}', "no calibration table"),
        (b'{"schema": 2}', "schema 2, this skyfix reads 1"),
        (b'{"method": "minmax"}', "no calibration table"),
    ],
)
def test_a_file_that_is_no_table_of_this_schema_is_refused(
    tmp_path: Path, text: bytes, message: str
) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_a_truncated_table_is_refused(tmp_path: Path, table: CalibrationTable) -> None:
    path = tmp_path / "table.json"
    write_json(path, table)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"no calibration table.*Calibrate again"):
        read_table(path)


@pytest.mark.parametrize("scale", [0, -0.1])
def test_a_scale_that_is_not_above_zero_is_refused(
    tmp_path: Path, table: CalibrationTable, scale: float
) -> None:
    plain = msgspec.to_builtins(table)
    plain["graphs"]["both.onnx"]["layers"][0]["scale"] = scale
    path = tmp_path / "table.json"
    path.write_bytes(msgspec.json.encode(plain))
    with pytest.raises(InputError, match="scale"):
        read_table(path)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.json")
