"""Miniature data sets, made by the script beside the tests of the loaders."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def miniature() -> ModuleType:
    """The script: make_cvusa(root, train=24, test=8) and its like."""
    path = Path(__file__).parent / "data" / "miniature.py"
    spec = importlib.util.spec_from_file_location("miniature", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
