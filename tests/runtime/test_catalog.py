"""The list of installed models."""

import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from skyfix.runtime import catalog
from skyfix.runtime.catalog import models, models_in, table_from_models
from skyfix.runtime.cli import main
from skyfix.runtime.engines.base import (
    ModelCard,
    TrainingRecord,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.errors import MissingExtraError


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Two models whose graphs are 1.5 and 0.5 MB."""
    for name, size in (("large", 1_500_000), ("small", 500_000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.onnx").write_bytes(bytes(size))
        graphs = {"query": "net.onnx", "map": "net.onnx"}
        save_card(
            folder,
            ModelCard(
                schema=1, name=name, model_id=model_id_from_graphs(folder, graphs),
                architecture="GeoDTR+", graphs=graphs, input_px=128, gsd_m=0.9,
                mean=None, std=None, dimension=256, precision="fp32",
                training=TrainingRecord("c", 1, 0.1, "cpu", {"neon": "CC0"}), licence="Apache-2.0",
            ),
        )  # fmt: skip
    return tmp_path


def test_models_are_listed_by_name_with_the_size_of_their_graphs(shelf: Path) -> None:
    """One file that serves both branches counts once."""
    found = models_in(shelf)
    assert [(listed.folder, listed.size_mb) for listed in found] == [("large", 1.5), ("small", 0.5)]


def test_a_broken_model_is_reported_and_hides_no_other(
    shelf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shelf / "large" / "net.onnx").write_bytes(b"altered")
    with caplog.at_level(logging.WARNING):
        assert [listed.folder for listed in models_in(shelf)] == ["small"]
    assert "altered or replaced" in caplog.text


def test_the_table_states_training_and_licence(shelf: Path) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table_from_models(models_in(shelf)))
    for text in ("large", "128 px", "0.9", "256", "1.5", "neon", "Apache-2.0", "drawn maps 500"):
        assert text in captured.get()


def test_json_holds_the_whole_cards(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "SHIPPED_MODELS", shelf)
    models(json_output=True)
    listed = json.loads(capsys.readouterr().out)
    assert listed[1]["card"]["training"]["imagery"] == {"neon": "CC0"}


def test_an_empty_shelf_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "SHIPPED_MODELS", tmp_path)
    models()
    assert "no models" in capsys.readouterr().out


def test_a_name_is_described_by_whoever_knows_networks(capsys: pytest.CaptureFixture[str]) -> None:
    """GeoDTR+ has 30.05 M parameters at CVUSA's sizes (own count from the published code)."""
    with pytest.raises(SystemExit) as stop:
        main(["models", "geodtr_plus", "--json"])
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["parameters"] == pytest.approx(30.05e6, abs=5e3)


def test_without_that_folder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: no installed package has the entry point."""
    monkeypatch.setattr(catalog, "NETWORKS_GROUP", "skyfix.nobody")
    with pytest.raises(MissingExtraError, match=r"pip install 'skyfix\[train\]'"):
        models("geodtr_plus")
