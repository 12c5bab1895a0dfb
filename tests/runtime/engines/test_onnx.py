"""The ONNX engine apart from its graphs, which tests/export/test_onnx.py runs."""

import os

import pytest

from skyfix.runtime.engines.onnx import available_cores


def test_a_system_that_does_not_tell_a_processs_cores_gives_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
