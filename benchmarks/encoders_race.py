"""Candidates take turns on the same input, each in a process of its own.

One process for all would not be fair: an engine's threads go on spinning for work after a call, and
on two cores the next engine then runs beside them (nano by onnxruntime and OpenVINO in one process:
1.5 to 4 times as slow in turn as each by itself). Here whoever is not at work is stopped by a
signal, as if it were not on the machine. In every round each candidate has its turn of a few calls,
so that a change of the machine's load meets all of them; ratios are of the same round.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.engines.base import ModelCard

WORKER = Path(__file__).with_name("encoders_worker.py")
TORCH = "torch"  # a checkpoint folder, eager, fp32
STOCK_ONNX, STOCK_OPENVINO = "stock onnxruntime", "stock OpenVINO"
START_S = 180  # an engine that has not started by then never will

Batch = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """What takes part, in words that another process understands."""

    name: str
    how: str  # TORCH, an engine of the product (runtime/engines/choose.py), or a stock one
    path: Path  # checkpoint folder or graph
    card: ModelCard | None = None  # of the product's engines
    precision: str = ""  # of stock OpenVINO: "f32", "bf16"
    view: str = ""  # of torch


@dataclass(frozen=True)
class Turn:
    """A few calls in a row."""

    wall_ms: float  # median of a call
    cpu_ms: float  # of a call, all threads


@dataclass(frozen=True)
class Finish:
    """What one candidate did."""

    turns: tuple[Turn, ...]  # one a round
    descriptors: Batch  # (B, D)

    @property
    def median_ms(self) -> float:
        """Median over the rounds."""
        return float(np.median([turn.wall_ms for turn in self.turns]))

    @property
    def fastest_ms(self) -> float:
        """The best round: what a quiet machine would give."""
        return min(turn.wall_ms for turn in self.turns)

    @property
    def slowest_ms(self) -> float:
        """The worst round."""
        return max(turn.wall_ms for turn in self.turns)

    @property
    def cpu_ms(self) -> float:
        """Processor time of a call in the best round; threads that spin for work count."""
        return min(turn.cpu_ms for turn in self.turns)

    def speed_over(self, other: "Finish") -> float:
        """How many times as fast as another, median of the rounds' ratios."""
        pairs = zip(self.turns, other.turns, strict=True)
        return float(np.median([theirs.wall_ms / own.wall_ms for own, theirs in pairs]))


@dataclass(frozen=True)
class _Worker:
    candidate: Candidate
    process: subprocess.Popen[bytes]
    line: Connection


def race(
    candidates: Sequence[Candidate], batches: Sequence[Batch], rounds: int
) -> Mapping[tuple[str, int], Finish]:
    """Candidate's name and batch size -> what it did."""
    turns: dict[tuple[str, int], list[Turn]] = {}
    found: dict[tuple[str, int], Batch] = {}
    with _workers(candidates) as workers:
        for batch in batches:
            for worker in workers:
                found[worker.candidate.name, len(batch)] = _ask(worker, batch)
            for _ in range(rounds):
                for worker in workers:
                    key = (worker.candidate.name, len(batch))
                    turns.setdefault(key, []).append(_ask(worker, None))
    return {key: Finish(tuple(turns[key]), found[key]) for key in turns}


@contextmanager
def _workers(candidates: Sequence[Candidate]) -> Iterator[list[_Worker]]:
    """A stopped process for every candidate, started one after the other."""
    workers: list[_Worker] = []
    try:
        for candidate in candidates:
            own, others = Pipe()
            process = subprocess.Popen(
                [sys.executable, str(WORKER), str(others.fileno())], pass_fds=[others.fileno()]
            )
            others.close()
            workers.append(_Worker(candidate, process, own))
            own.send(candidate)
            _answer(workers[-1])
        yield workers
    finally:
        for worker in workers:
            worker.line.close()
            worker.process.kill()
            worker.process.wait()


def _ask(worker: _Worker, batch: Batch | None) -> Any:
    """Wake a worker, have its answer (descriptors of a batch, a turn for None), stop it again."""
    worker.process.send_signal(signal.SIGCONT)
    worker.line.send(batch)
    return _answer(worker)


def _answer(worker: _Worker) -> Any:
    if not worker.line.poll(START_S):
        raise TimeoutError(f"{worker.candidate.name} does not answer")
    try:
        answer = worker.line.recv()
    except EOFError as error:
        raise RuntimeError(f"{worker.candidate.name}: its process ended") from error
    if isinstance(answer, Exception):
        raise answer
    worker.process.send_signal(signal.SIGSTOP)
    return answer
