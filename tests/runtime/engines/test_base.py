import errno
import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    load_card,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.errors import InputError, ModelError
from skyfix.runtime.fuse.likelihood import Likelihood

QUERY, MAP = b"bytes of the query graph", b"bytes of the map graph"


def model_folder(folder: Path, graphs: dict[str, str]) -> ModelCard:
    """A folder with two files in the place of graphs, and the card for them."""
    (folder / "query.onnx").write_bytes(QUERY)
    (folder / "map.onnx").write_bytes(MAP)
    card = ModelCard(
        schema=CARD_SCHEMA,
        name="tiny",
        model_id=model_id_from_graphs(folder, graphs),
        architecture="geodtr/convnext_atto",
        graphs=graphs,
        input_px=128,
        gsd_m=0.9,
        mean=None,
        std=None,
        dimension=256,
        precision="fp32",
        training=TrainingRecord("tiny.yaml", 10, 0.1, "cpu", {"procedural": "Apache-2.0"}),
        licence="Apache-2.0",
    )
    save_card(folder, card)
    return card


BOTH = {"query": "query.onnx", "map": "map.onnx"}


def test_a_card_reads_as_it_was_written(tmp_path: Path) -> None:
    card = model_folder(tmp_path, BOTH)
    assert load_card(tmp_path) == card
    assert card.tile_m == pytest.approx(115.2)


def test_the_id_is_the_hash_of_the_graphs_in_the_order_of_their_branches(tmp_path: Path) -> None:
    card = model_folder(tmp_path, BOTH)
    assert card.model_id == hashlib.sha256(MAP + QUERY).hexdigest()[:16]


def test_a_graph_that_serves_both_branches_counts_once(tmp_path: Path) -> None:
    card = model_folder(tmp_path, {"query": "query.onnx", "map": "query.onnx"})
    assert card.model_id == hashlib.sha256(QUERY).hexdigest()[:16]


def test_an_altered_graph_is_refused_with_both_ids(tmp_path: Path) -> None:
    card = model_folder(tmp_path, BOTH)
    (tmp_path / "map.onnx").write_bytes(MAP[:-1] + b"!")
    with pytest.raises(ModelError, match=f"card says {card.model_id}"):
        load_card(tmp_path)


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    model_folder(tmp_path, BOTH)
    (tmp_path / "map.onnx").unlink()
    with pytest.raises(ModelError, match=r"lacks map\.onnx"):
        load_card(tmp_path)


def test_a_folder_without_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no model folder"):
        load_card(tmp_path)


def altered_card(folder: Path, field: str, value: object) -> None:
    path = folder / "model.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, field: value}), encoding="utf-8")


def test_a_card_of_another_schema_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path, BOTH)
    altered_card(tmp_path, "schema", CARD_SCHEMA + 1)
    with pytest.raises(ModelError, match=f"schema {CARD_SCHEMA + 1}, this skyfix reads"):
        load_card(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("gsd", 0.9), ("input_px", "128"), ("graphs", ["query.onnx"])]
)
def test_an_unknown_or_mistyped_field_is_named(tmp_path: Path, field: str, value: object) -> None:
    model_folder(tmp_path, BOTH)
    altered_card(tmp_path, field, value)
    with pytest.raises(ModelError, match=field):
        load_card(tmp_path)


def test_a_truncated_card_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path, BOTH)
    path = tmp_path / "model.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"model\.json"):
        load_card(tmp_path)


def test_the_card_is_plain_json(tmp_path: Path) -> None:
    card = model_folder(tmp_path, BOTH)
    assert json.loads((tmp_path / "model.json").read_bytes()) == json.loads(
        msgspec.json.encode(card)
    )


def test_a_card_without_a_likelihood_has_that_of_cards_that_state_none(tmp_path: Path) -> None:
    model_folder(tmp_path, BOTH)
    path = tmp_path / "model.json"
    card = json.loads(path.read_bytes())
    del card["likelihood"]
    path.write_text(json.dumps(card), encoding="utf-8")
    assert load_card(tmp_path).likelihood == Likelihood()
    assert all(line.startswith("another model") for line in Likelihood().frames)


def test_a_likelihood_that_no_frame_can_have_shown_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path, BOTH)
    altered_card(tmp_path, "likelihood", {"temperature": -0.04})
    with pytest.raises(ModelError, match=r"temperature"):
        load_card(tmp_path)


def test_a_card_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(path: Path, _data: bytes) -> int:
        with path.open("wb") as file:
            file.write(b"{")
        raise OSError(errno.ENOSPC, "No space left on device")

    card = model_folder(tmp_path, BOTH)
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(InputError, match="cannot be written"):
        save_card(tmp_path, msgspec.structs.replace(card, name="other"))
    assert load_card(tmp_path) == card
