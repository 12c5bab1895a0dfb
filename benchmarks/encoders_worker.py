"""The process of one candidate; encoders_race.py starts it.

    python encoders_worker.py FILE_DESCRIPTOR

It is sent the candidate, then batches, each of which it warms up on and describes, and for every
None it times a few calls on the last batch.
"""

import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cores import CORES, keep_to_two_cores
from encoders_race import STOCK_ONNX, STOCK_OPENVINO, TORCH, Batch, Candidate, Turn

from skyfix.runtime.engines.base import PictureEngine
from skyfix.runtime.engines.choose import open_engine

TURN_S = 0.25  # for the calls of one turn
FEWEST, MOST = 2, 40  # calls of a turn
WARM_UP = 3  # calls before the first turn

Infer = Callable[[Batch], Batch]


def work(line: Connection) -> None:
    """Answer until the other side closes the line."""
    candidate = line.recv()
    try:
        infer = infer_of(candidate)
        line.send(None)
        batch = np.empty(0, np.float32)
        while True:
            asked = line.recv()
            if asked is None:
                line.send(turn_of(infer, batch))
            else:
                batch = asked
                descriptors = [infer(batch) for _ in range(WARM_UP)]
                line.send(descriptors[-1])
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001  whatever it is, the other process must hear of it
        line.send(RuntimeError(f"{candidate.name}: {error}"))


def turn_of(infer: Infer, batch: Batch) -> Turn:
    """Time a few calls."""
    walls_s: list[float] = []
    cpu_s = time.process_time()
    while len(walls_s) < FEWEST or (sum(walls_s) < TURN_S and len(walls_s) < MOST):
        started = time.perf_counter()
        infer(batch)
        walls_s.append(time.perf_counter() - started)
    cpu_s = (time.process_time() - cpu_s) / len(walls_s)
    return Turn(float(np.median(walls_s)) * 1e3, cpu_s * 1e3)


def infer_of(candidate: Candidate) -> Infer:
    """Load a candidate."""
    if candidate.how == TORCH:
        return _torch(candidate)
    if candidate.how == STOCK_ONNX:
        return _stock_onnx(candidate.path)
    if candidate.how == STOCK_OPENVINO:
        return _stock_openvino(candidate.path, candidate.precision)
    assert candidate.card is not None
    engine = open_engine(candidate.how, candidate.path, candidate.card, CORES)
    assert not isinstance(engine, PictureEngine)  # of a GPU, which is named nowhere here
    return engine.infer


def _torch(candidate: Candidate) -> Infer:
    import torch  # noqa: PLC0415  (only this candidate's process needs it)

    from skyfix.train.checkpoint import load_network  # noqa: PLC0415  (likewise)

    torch.set_num_threads(CORES)
    network = load_network(candidate.path)

    def infer(batch: Batch) -> Batch:
        with torch.inference_mode():
            return network.encode(candidate.view, torch.from_numpy(batch)).descriptor.numpy()

    return infer


def _stock_onnx(graph: Path) -> Infer:
    """As its documentation says, but for the number of threads."""
    import onnxruntime  # noqa: PLC0415  (only this candidate's process needs it)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


def _stock_openvino(graph: Path, precision: str) -> Infer:
    """As its documentation says, with the number of threads and the precision stated."""
    import openvino  # noqa: PLC0415  (only this candidate's process needs it)

    options = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(CORES),
        "INFERENCE_PRECISION_HINT": precision,
    }  # fmt: skip
    compiled = openvino.Core().compile_model(graph, "CPU", options)
    return lambda batch: np.array(compiled(batch)[0], np.float32)


if __name__ == "__main__":
    keep_to_two_cores()
    work(Connection(int(sys.argv[1])))
