"""The last check before a flight: do all engines of a model say the same of the same pictures?

    patches -> torch (where its checkpoint is at hand), onnxruntime, OpenVINO, TensorRT -> cosines

The reference is torch, else onnxruntime. Every engine gets the patches as in flight, by the
encoder: one that normalises by itself is compared with the normalisation that training knows. What
is kept in the model folder counts from then on: the runtime refuses a TensorRT engine that failed.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.encoder import Encoder, normalised
from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    VERIFY_NAME,
    Finding,
    VerifyRecord,
    engine_path,
    file_sha256,
    read_record,
)
from skyfix.runtime.engines.choose import (
    ONNX,
    OPENVINO_BF16,
    TENSORRT,
    TENSORRT_UNCHECKED,
    open_engine,
)
from skyfix.runtime.errors import InputError
from skyfix.runtime.files import write_json
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import pack_scores
from skyfix.runtime.types import Patch

from .engine import is_shipped

GATES = {"fp32": 0.9999, "fp16": 0.9999, "int8": 0.99}  # smallest cosine that passes
BF16_GATE = 0.999  # eight bits of mantissa
TORCH = "torch"
BATCH = 8

Descriptors = NDArray[np.float32]


def verify_model(
    folder: Path,
    card: ModelCard,
    patches: Sequence[Patch],
    engines: Sequence[str],
    *,
    checkpoint: Path | None = None,
    pack: TilePack | None = None,
    gate: float | None = None,
) -> VerifyRecord:
    """Compare engines on patches; raises the error of an engine that cannot run."""
    others = [name for name in engines if name != ONNX]
    if not others and checkpoint is None:
        raise InputError(
            "onnxruntime alone is compared with nothing: give --checkpoint, install another engine "
            "(pip install 'skyfix[openvino]') or build one (skyfix export engine)"
        )
    findings: list[Finding] = []
    for file in sorted(set(card.graphs.values())):
        found = {
            name: described(folder / file, card, name, patches)
            for name in dict.fromkeys((ONNX, *others))
        }
        if checkpoint is not None:
            found = {TORCH: torch_described(checkpoint, file, card, patches)} | found
        reference = next(iter(found))
        findings += [
            compared(folder / file, card, (reference, found[reference]), (name, found[name]),
                     pack if card.graphs["query"] == file else None, gate)
            for name in found if name != reference
        ]  # fmt: skip
    return VerifyRecord(RECORD_SCHEMA, card.model_id, findings)


def keep(folder: Path, record: VerifyRecord) -> bool:
    """Write findings into a model folder; False for a shipped model, which is never written to.

    What an earlier check found of other engines stays. Raises InputError.
    """
    if is_shipped(folder):
        return False
    new = {(finding.engine, finding.graph) for finding in record.findings}
    earlier = [
        finding
        for finding in findings_in(folder, record.model_id)
        if (finding.engine, finding.graph) not in new
    ]
    merged = VerifyRecord(record.schema, record.model_id, [*earlier, *record.findings])
    write_json(folder / VERIFY_NAME, merged)
    return True


def findings_in(folder: Path, model_id: str) -> list[Finding]:
    """What a folder's record says of a model; nothing where it cannot be read or is another's."""
    try:
        record = msgspec.json.decode((folder / VERIFY_NAME).read_bytes(), type=VerifyRecord)
    except (OSError, msgspec.MsgspecError):
        return []
    return record.findings if record.model_id == model_id else []


def described(graph: Path, card: ModelCard, engine: str, patches: Sequence[Patch]) -> Descriptors:
    """Descriptors (N, D) by one engine; one that failed an earlier check is tried again."""
    loaded = open_engine(TENSORRT_UNCHECKED if engine == TENSORRT else engine, graph, card)
    encoder = Encoder(card, loaded)
    return np.concatenate([encoder.describe(part) for part in _parts(patches)])


def torch_described(
    checkpoint: Path, file: str, card: ModelCard, patches: Sequence[Patch]
) -> Descriptors:
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
            encoder(torch.from_numpy(inputs_of(part, card))).numpy() for part in _parts(patches)
        ]
    return np.concatenate(parts)


def inputs_of(patches: Sequence[Patch], card: ModelCard) -> NDArray[np.float32]:
    """Network inputs (N, 3, P, P), normalised on the CPU."""
    return np.stack([normalised(patch, card.mean, card.std) for patch in patches])


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


def _parts(patches: Sequence[Patch]) -> list[Sequence[Patch]]:
    return [patches[start : start + BATCH] for start in range(0, len(patches), BATCH)]
