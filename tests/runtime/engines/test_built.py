"""Records of engines: nothing but the file that was built, where it was built, passes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    BuildOptions,
    EngineRecord,
    Finding,
    Machine,
    VerifyRecord,
    finding_of,
    record_path,
    verified_bytes,
)
from skyfix.runtime.errors import EngineError
from skyfix.runtime.files import write_json

HERE = Machine("10.3.0", "Orin", (8, 7))
ENGINE = b"bytes of an engine"
FINDING = Finding("tensorrt", "encoder.onnx", "aa", "onnx", 64, 0.5, 0.9, 0.99, False, None)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph, its variant for TensorRT, and an engine of both with its record."""
    contents = {"encoder.onnx": b"graph", "encoder.trt.onnx": b"graph for TensorRT"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    engine = tmp_path / "encoder.engine"
    engine.write_bytes(ENGINE)
    record = EngineRecord(
        schema=RECORD_SCHEMA, machine=HERE, built_from="encoder.trt.onnx",
        graphs={name: sha256(data) for name, data in contents.items()},
        options=BuildOptions(1, 1, 8, 256, 3), plugins=[], engine_sha256=sha256(ENGINE), build_s=1,
    )  # fmt: skip
    write_json(record_path(engine), record)
    return tmp_path / "encoder.onnx"


def test_a_whole_engine_of_this_machine_and_graph_is_given(graph: Path) -> None:
    data, record = verified_bytes(graph, HERE)
    assert data == ENGINE
    assert record.machine == HERE


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine("10.7.0", "Orin", (8, 7)), "tensorrt 10.3.0, here it is 10.7.0"),
        (Machine("10.3.0", "Thor", (8, 7)), "gpu Orin, here it is Thor"),
        (Machine("10.3.0", "Orin", (11, 0)), "compute_capability 8.7, here it is 11.0"),
    ],
)
def test_an_engine_of_another_library_or_gpu_is_refused(
    graph: Path, machine: Machine, words: str
) -> None:
    with pytest.raises(EngineError, match=words) as raised:
        verified_bytes(graph, machine)
    assert "skyfix export engine" in str(raised.value)


def truncated(folder: Path) -> None:
    (folder / "encoder.engine").write_bytes(ENGINE[:-1])


def one_bit(folder: Path) -> None:
    (folder / "encoder.engine").write_bytes(b"B" + ENGINE[1:])


def empty(folder: Path) -> None:
    (folder / "encoder.engine").write_bytes(b"")


def another_graph(folder: Path) -> None:
    (folder / "encoder.onnx").write_bytes(b"trained longer")


def another_variant(folder: Path) -> None:
    (folder / "encoder.trt.onnx").write_bytes(b"exported again")


def no_variant(folder: Path) -> None:
    (folder / "encoder.trt.onnx").unlink()


def no_engine(folder: Path) -> None:
    (folder / "encoder.engine").unlink()


def no_record(folder: Path) -> None:
    record_path(folder / "encoder.engine").unlink()


def half_record(folder: Path) -> None:
    path = record_path(folder / "encoder.engine")
    path.write_bytes(path.read_bytes()[:-30])


def newer_record(folder: Path) -> None:
    path = record_path(folder / "encoder.engine")
    record = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(record | {"schema": RECORD_SCHEMA + 1}))


def of_another_file(folder: Path) -> None:
    path = record_path(folder / "encoder.engine")
    record = msgspec.json.decode(path.read_bytes())
    digest = sha256(b"graph for TensorRT")
    path.write_bytes(msgspec.json.encode(record | {"graphs": {"encoder.trt.onnx": digest}}))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (truncated, r"not the file that was built \(17 bytes\)"),
        (one_bit, "not the file that was built"),
        (empty, r"not the file that was built \(0 bytes\)"),
        (another_graph, r"another encoder\.onnx"),
        (another_variant, r"another encoder\.trt\.onnx"),
        (no_variant, r"another encoder\.trt\.onnx"),
        (no_engine, r"no engine for encoder\.onnx"),
        (no_record, "cannot be read"),
        (half_record, r"encoder\.engine\.json"),
        (newer_record, "has schema 2, this skyfix reads 1"),
        (of_another_file, r"built from encoder\.trt\.onnx"),
    ],
)
def test_a_file_that_is_not_the_one_recorded_is_refused(
    graph: Path, fault: Callable[[Path], None], words: str
) -> None:
    fault(graph.parent)
    with pytest.raises(EngineError, match=words) as raised:
        verified_bytes(graph, HERE)
    assert "Build it again on this device" in str(raised.value)


def test_a_finding_counts_for_exactly_the_file_that_was_checked(tmp_path: Path) -> None:
    assert finding_of(tmp_path, "tensorrt", "aa") is None
    write_json(tmp_path / "verify.json", VerifyRecord(RECORD_SCHEMA, "id", [FINDING]))
    assert finding_of(tmp_path, "tensorrt", "aa") == FINDING
    assert finding_of(tmp_path, "tensorrt", "bb") is None
    assert finding_of(tmp_path, "openvino", "aa") is None


def test_a_broken_record_of_the_check_is_no_permission(tmp_path: Path) -> None:
    (tmp_path / "verify.json").write_text("{", encoding="utf-8")
    with pytest.raises(EngineError, match="skyfix export verify"):
        finding_of(tmp_path, "tensorrt", "aa")
