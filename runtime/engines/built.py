"""Engines built on this device: what was built from what, and whether it may be used here.

    encoder.engine            TensorRT's bytes
    encoder.engine.json       the record: library, GPU, graphs, options, SHA-256 of the bytes
    verify.json               what `skyfix export verify` found for each engine of the folder

TensorRT crashes on some files that are not whole or not its own, so nothing of this needs it: a
file is handed to the library only when its record agrees with the library, the GPU, the graphs
beside it and its own bytes.
"""

import hashlib
from pathlib import Path

import msgspec

from ..errors import EngineError

ENGINE_SUFFIX = ".engine"
RECORD_SUFFIX = ".json"  # after the engine's own name
VERIFY_NAME = "verify.json"
RECORD_SCHEMA = 1
REBUILD = "Build it again on this device: skyfix export engine {folder}"


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine is bound to."""

    tensorrt: str  # as "10.3.0"
    gpu: str
    compute_capability: tuple[int, int]


class BuildOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked of the builder; another wish is another engine."""

    min_batch: int
    best_batch: int  # the one that is tuned for
    max_batch: int
    workspace_mib: int
    level: int  # optimisation level of the builder, 0 to 5


class EngineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sidecar of an engine."""

    schema: int
    machine: Machine
    graphs: dict[str, str]  # file in the folder -> SHA-256; the card's graph, and the one built
    built_from: str  # which of them TensorRT read
    options: BuildOptions
    plugins: list[str]  # nodes that need a plugin of ours at run time
    engine_sha256: str
    build_s: float


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the check found for one engine."""

    engine: str  # "tensorrt", "openvino"
    graph: str  # the card's
    sha256: str  # of the file that ran
    reference: str  # what it was compared with
    patches: int
    min_cosine: float
    mean_cosine: float
    gate: float  # smallest cosine that passes
    passed: bool
    top1_agreement: float | None  # share of patches with the same best tile of a pack


class VerifyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that the check leaves in the model folder."""

    schema: int
    model_id: str
    findings: list[Finding]


def engine_path(graph: Path) -> Path:
    """The engine of a graph: encoder.onnx -> encoder.engine."""
    return graph.with_suffix(ENGINE_SUFFIX)


def record_path(engine: Path) -> Path:
    """The record of an engine."""
    return engine.with_name(engine.name + RECORD_SUFFIX)


def read_record(engine: Path) -> EngineRecord:
    """The record of an engine; raises EngineError where it is missing or of another schema."""
    path, rebuild = record_path(engine), REBUILD.format(folder=engine.parent)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}). {rebuild}") from error
    except msgspec.MsgspecError as error:
        raise EngineError(f"{path}: {error}. {rebuild}") from error
    if record.schema != RECORD_SCHEMA:
        raise EngineError(
            f"{path} has schema {record.schema}, this skyfix reads {RECORD_SCHEMA}. {rebuild}"
        )
    return record


def verified_bytes(graph: Path, machine: Machine) -> tuple[bytes, EngineRecord]:
    """An engine's bytes, once everything that its record says is true here; raises EngineError."""
    engine, rebuild = engine_path(graph), REBUILD.format(folder=graph.parent)
    if not engine.is_file():
        raise EngineError(f"{graph.parent} has no engine for {graph.name}. {rebuild}")
    record = read_record(engine)
    for field in Machine.__struct_fields__:
        built, here = getattr(record.machine, field), getattr(machine, field)
        if built != here:
            raise EngineError(
                f"{engine} was built with {field} {_shown(built)}, here it is {_shown(here)}: "
                f"engines do not move between machines or versions. {rebuild}"
            )
    if graph.name not in record.graphs:
        raise EngineError(f"{engine} was built from {record.built_from}. {rebuild}")
    for name, digest in record.graphs.items():
        path = graph.with_name(name)
        if not path.is_file() or file_sha256(path) != digest:
            raise EngineError(f"{engine} was built from another {name} than lies here. {rebuild}")
    data = engine.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.engine_sha256:
        raise EngineError(
            f"{engine} is not the file that was built ({len(data)} bytes): truncated or altered. "
            f"{rebuild}"
        )
    return data, record


def finding_of(folder: Path, engine: str, sha256: str) -> Finding | None:
    """What the last check found for exactly this file; None where it was not checked.

    Raises EngineError where the record of the check cannot be read.
    """
    path = folder / VERIFY_NAME
    if not path.is_file():
        return None
    try:
        record = msgspec.json.decode(path.read_bytes(), type=VerifyRecord)
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineError(
            f"{path}: {error}. Check the model again: skyfix export verify {folder}"
        ) from error
    found = [f for f in record.findings if (f.engine, f.sha256) == (engine, sha256)]
    return found[-1] if found else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shown(value: object) -> str:
    return ".".join(map(str, value)) if isinstance(value, tuple) else str(value)
