"""Which engine runs a model: the one that the caller names, or for `auto` the best one here.

A named engine that cannot run is an error; it is never replaced by another. `auto` takes the first
of `auto_order` that can run, and says which and why.

    onnx                 onnxruntime on the CPU, the default
    openvino             OpenVINO on the CPU, in the graph's precision
    openvino-bf16        the same, computing in bf16
    tensorrt             the engine that `skyfix export engine` has built on this device
    tensorrt-unchecked   the same, even if `skyfix export verify` has found it wrong
"""

import logging
import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError
from .base import Engine, GraphCard, PictureEngine
from .built import engine_path, finding_of, read_record
from .onnx import OnnxEngine

AUTO = "auto"
ONNX, OPENVINO, OPENVINO_BF16 = "onnx", "openvino", "openvino-bf16"
TENSORRT, TENSORRT_UNCHECKED = "tensorrt", "tensorrt-unchecked"
ENGINES = (ONNX, OPENVINO, OPENVINO_BF16, TENSORRT, TENSORRT_UNCHECKED)
DEFAULT_ENGINE = ONNX
PACKAGES = {ONNX: "onnxruntime", OPENVINO: "openvino", TENSORRT: "tensorrt"}
X86 = ("x86_64", "AMD64")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The engine that runs, and why it and no other."""

    name: str
    why: str


def choose(wanted: str, graphs: list[Path], precision: str) -> Choice:
    """The engine for a model's graphs of a precision; raises InputError for a name that is none."""
    if wanted in ENGINES:
        return Choice(wanted, "named by the caller")
    if wanted != AUTO:
        raise InputError(f"--engine {wanted}: choose among {', '.join((AUTO, *ENGINES))}")
    missing: list[str] = []
    for name in auto_order(precision):
        obstacle = _obstacle(name, graphs)
        if obstacle is None:
            choice = Choice(name, "; ".join([*missing, f"{name} can run"]))
            log.info("engine %s: %s", choice.name, choice.why)
            return choice
        missing.append(f"{name}: {obstacle}")
    raise InputError(
        f"no engine can run here ({'; '.join(missing)}). Install one: pip install 'skyfix[cpu]'"
    )


def auto_order(precision: str) -> tuple[str, ...]:
    """The engines from the best down.

    On x86 OpenVINO computes fp16 and int8 graphs in bf16, half the time of onnxruntime's fp32; on
    fp32 graphs they are within 10 % of each other (measured on the shipped model), and onnxruntime
    starts at once.
    """
    if precision != "fp32" and platform.machine() in X86:
        return (TENSORRT, OPENVINO, ONNX)
    return (TENSORRT, ONNX, OPENVINO)


def installed_engines(graphs: list[Path]) -> list[str]:
    """The engines that a check compares: those that are installed, TensorRT where it was built."""
    built = all(engine_path(graph).is_file() for graph in graphs)
    return [
        name
        for name, package in PACKAGES.items()
        if find_spec(package) and (name != TENSORRT or built)
    ]


def open_engine(
    name: str, graph: Path, card: GraphCard, threads: int = 0
) -> Engine | PictureEngine:
    """Load a graph with one engine; raises its error where it cannot run."""
    if name == ONNX:
        return OnnxEngine(graph, card, threads)
    if name in {OPENVINO, OPENVINO_BF16}:
        from .openvino import OpenVinoEngine  # noqa: PLC0415  (an engine loads its own only)

        return OpenVinoEngine(graph, card, threads, bf16=name == OPENVINO_BF16)
    from .trt import open_tensorrt  # noqa: PLC0415  (an engine loads its own only)

    return open_tensorrt(graph, card, unchecked=name == TENSORRT_UNCHECKED)


def _obstacle(name: str, graphs: list[Path]) -> str | None:
    """Why `auto` does not take an engine; None where it does."""
    if name == TENSORRT:
        return _tensorrt_obstacle(graphs)
    return None if find_spec(PACKAGES[name]) else "not installed"


def _tensorrt_obstacle(graphs: list[Path]) -> str | None:
    """A GPU that is there but has no engine that passed its check is not taken unasked."""
    if find_spec(PACKAGES[TENSORRT]) is None:
        return "not installed"
    for graph in graphs:
        if not engine_path(graph).is_file():
            return f"no engine was built for {graph.name}"
        digest = read_record(engine_path(graph)).engine_sha256
        finding = finding_of(graph.parent, TENSORRT, digest)
        if finding is None:
            return f"the engine of {graph.name} was not checked (skyfix export verify)"
        if not finding.passed:
            return f"the engine of {graph.name} failed its check"
    return None
