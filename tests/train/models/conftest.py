"""Reference outputs of the published implementations, where they are at hand."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


@dataclass(frozen=True)
class Reference:
    """Weights, inputs and outputs of one published network."""

    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Reference]:
    """Reads a case by its name; the test is skipped where the cases are not."""
    if not GOLDEN.is_dir():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def read(name: str) -> Reference:
        case = json.loads((GOLDEN / f"{name}.json").read_text())
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            outputs = {key: arrays[key] for key in arrays}
        return Reference(
            {
                key: torch.from_numpy(np.asarray(module.fill(key, tuple(shape))))
                for key, shape in case["state_dict"].items()
            },
            {
                key: torch.from_numpy(module.image(key, tuple(shape)))
                for key, shape in case["inputs"].items()
            },
            outputs,
        )

    return read


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)
