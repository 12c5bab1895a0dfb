"""The executable specification in Triton's interpreter against torch."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, torch
from skyfix.export.plugins.linear_attention.triton_twin import linear_attention as twin
from skyfix.train.models.linear_attention import linear_attention
torch.set_num_threads(1)

def error(kind, queries, sources, dimension, scale=1.0, parts=2):
    torch.manual_seed(0)
    rows = (queries, sources, sources)
    q, k, v = ((torch.randn(1, 2, n, dimension) * scale).to(kind) for n in rows)
    wanted = linear_attention(q.double(), k.double(), v.double())
    return float((twin(q, k, v, parts=parts) - wanted).abs().max() / max(1, wanted.abs().max()))

single, half = torch.float32, torch.float16
print(json.dumps({
    "fp32": [error(single, *sizes) for sizes in
        ((40, 70, 32), (1, 1, 32), (33, 31, 20), (64, 96, 64), (5, 7, 128))],
    "fp32 long": [error(single, 32, 4096, 32, parts=3)],
    "fp32 large": [error(single, 40, 70, 32, 1000.0)],
    "fp16": [error(half, *sizes) for sizes in
        ((40, 70, 32), (1, 1, 32), (33, 31, 20), (64, 96, 64), (5, 7, 128))],
    "fp16 long": [error(half, 32, 4096, 32, parts=3)],
    "fp16 large": [error(half, 40, 70, 32, 8000.0)],
}))
"""


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    """Largest error of each case, over the largest output where that is above 1."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", ["fp32", "fp32 long", "fp32 large"])
def test_single_precision_agrees_to_1e_5(errors: dict[str, list[float]], case: str) -> None:
    assert max(errors[case]) <= 1e-5


@pytest.mark.parametrize("case", ["fp16", "fp16 long", "fp16 large"])
def test_half_precision_agrees_to_2e_3(errors: dict[str, list[float]], case: str) -> None:
    assert max(errors[case]) <= 2e-3
