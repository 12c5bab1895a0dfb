"""The last check before a flight: do all engines of a model say the same of the same pictures?

    patches -> torch (where its checkpoint is at hand), onnxruntime, OpenVINO, TensorRT -> cosines

The reference is torch, else onnxruntime. What falls below the gate is written into the model
folder, and the runtime's TensorRT engine refuses it from then on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    VERIFY_NAME,
    Finding,
    VerifyRecord,
    engine_path,
    file_sha256,
    read_record,
    write_json,
)
from skyfix.runtime.engines.choose import (
    ONNX,
    OPENVINO_BF16,
    TENSORRT,
    TENSORRT_UNCHECKED,
    open_engine,
)
from skyfix.runtime.errors import InputError
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import pack_scores

GATES = {"fp32": 0.9999, "fp16": 0.9999, "int8": 0.99}  # smallest cosine that passes
BF16_GATE = 0.999  # eight bits of mantissa
TORCH = "torch"
BATCH = 8

Descriptors = NDArray[np.float32]


def verify_model(
    folder: Path,
    card: ModelCard,
    batch: NDArray[np.float32],
    engines: Sequence[str],
    *,
    checkpoint: Path | None = None,
    pack: TilePack | None = None,
    gate: float | None = None,
) -> VerifyRecord:
    """Compare engines on (N, 3, P, P) inputs and write what was found into the folder.

    Raises the error of an engine that cannot run.
    """
    others = [name for name in engines if name != ONNX]
    if not others and checkpoint is None:
        raise InputError(
            "onnxruntime alone is compared with nothing: give --checkpoint, install another engine "
            "(pip install 'skyfix[openvino]') or build one (skyfix export engine)"
        )
    findings: list[Finding] = []
    for file in sorted(set(card.graphs.values())):
        found = {
            name: described(folder / file, card, name, batch)
            for name in dict.fromkeys((ONNX, *others))
        }
        if checkpoint is not None:
            found = {TORCH: torch_described(checkpoint, file, batch)} | found
        reference = next(iter(found))
        findings += [
            compared(folder / file, card, (reference, found[reference]), (name, found[name]),
                     pack if card.graphs["query"] == file else None, gate)
            for name in found if name != reference
        ]  # fmt: skip
    record = VerifyRecord(RECORD_SCHEMA, card.model_id, findings)
    write_json(folder / VERIFY_NAME, record)
    return record


def described(graph: Path, card: ModelCard, engine: str, batch: NDArray[np.float32]) -> Descriptors:
    """Descriptors (N, D) by one engine; one that failed an earlier check is tried again."""
    loaded = open_engine(TENSORRT_UNCHECKED if engine == TENSORRT else engine, graph, card)
    parts = [loaded.infer(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH)]
    return np.concatenate(parts)


def torch_described(checkpoint: Path, file: str, batch: NDArray[np.float32]) -> Descriptors:
    """Descriptors (N, D) by the network that the graph was exported from."""
    import torch  # noqa: PLC0415  (a device that only runs engines has no torch)

    from skyfix.train.checkpoint import load_network  # noqa: PLC0415  (as torch: only where a checkpoint is compared)

    from .branches import DescriptorOnly, branches_of  # noqa: PLC0415  (as torch: only where a checkpoint is compared)

    network = load_network(checkpoint)
    views = [branch.view for branch in branches_of(network) if branch.file == file]
    if not views:
        raise InputError(f"--checkpoint {checkpoint} has no branch that would be {file}")
    encoder = DescriptorOnly(network, views[0]).eval()
    with torch.no_grad():
        parts = [
            encoder(torch.from_numpy(batch[start : start + BATCH])).numpy()
            for start in range(0, len(batch), BATCH)
        ]
    return np.concatenate(parts)


def compared(
    graph: Path,
    card: ModelCard,
    reference: tuple[str, Descriptors],
    candidate: tuple[str, Descriptors],
    pack: TilePack | None,
    gate: float | None,
) -> Finding:
    """How far an engine's descriptors are from the reference's."""
    (name, expected), (engine, actual) = reference, candidate
    if expected.shape != actual.shape:
        raise InputError(
            f"{name} gives descriptors of {expected.shape[1]} numbers, {engine} of "
            f"{actual.shape[1]}: checkpoint and model do not belong together"
        )
    cosines = cosine(expected, actual)
    smallest = float(cosines.min())
    limit = gate_of(card, engine) if gate is None else gate
    return Finding(
        engine=engine, graph=graph.name, sha256=_digest(graph, engine), reference=name,
        patches=len(expected), min_cosine=smallest, mean_cosine=float(cosines.mean()),
        gate=limit, passed=smallest >= limit,
        top1_agreement=None if pack is None else top1_agreement(pack, expected, actual),
    )  # fmt: skip


def cosine(first: Descriptors, second: Descriptors) -> NDArray[np.float64]:
    """Cosine of each pair of rows; -1 for a row that is no number or zero, so that it fails."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.sum(a * b, axis=1) / norms
    return np.where(np.isfinite(found), found, -1.0)


def gate_of(card: ModelCard, engine: str) -> float:
    """The smallest cosine that passes, by the precision that computes."""
    if engine == OPENVINO_BF16:
        return min(GATES[card.precision], BF16_GATE)
    return GATES[card.precision]


def top1_agreement(pack: TilePack, expected: Descriptors, actual: Descriptors) -> float:
    """Share of patches for which both find the same best tile of a pack."""
    same = [
        pack_scores(pack, first).argmax() == pack_scores(pack, second).argmax()
        for first, second in zip(expected, actual, strict=True)
    ]
    return float(np.mean(same))


def _digest(graph: Path, engine: str) -> str:
    if engine in {TENSORRT, TENSORRT_UNCHECKED}:
        return read_record(engine_path(graph)).engine_sha256
    return file_sha256(graph)
