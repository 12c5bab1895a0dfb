"""What a graph takes and gives decides whether it is one of ours."""

import msgspec
import pytest

from skyfix.runtime.encoder import SHIPPED_MODELS
from skyfix.runtime.engines.base import PictureCard, load_card
from skyfix.runtime.engines.tensors import (
    Tensor,
    patch_form,
    picture_form,
    refuse_foreign,
    shape_of,
)
from skyfix.runtime.errors import ModelError

CARD = msgspec.structs.replace(load_card(SHIPPED_MODELS / "nano"), input_px=64, dimension=8)
PATCH = Tensor("patch", "FLOAT", (None, 3, 64, 64))
PICTURE = Tensor("picture", "UINT8", (None, 64, 64, 3))
VALID = Tensor("valid", "UINT8", (None, 64, 64))
DESCRIPTOR = Tensor("descriptor", "FLOAT", (None, 8))
FORMS = (picture_form(CARD), patch_form(CARD))


@pytest.mark.parametrize("word", ["FLOAT", "f32", "tensor(float)"])
def test_every_librarys_word_for_a_type_is_understood(word: str) -> None:
    found = [Tensor("patch", word, PATCH.shape), DESCRIPTOR]
    assert refuse_foreign("it", found, *FORMS) == patch_form(CARD)


def test_the_order_in_which_a_library_lists_them_does_not_count() -> None:
    assert refuse_foreign("it", [DESCRIPTOR, VALID, PICTURE], *FORMS) == picture_form(CARD)


def test_sides_that_a_graph_leaves_free_fit_any_card() -> None:
    free = [Tensor("patch", "FLOAT", (None,) * 4), Tensor("descriptor", "FLOAT", (None, None))]
    assert refuse_foreign("it", free, *FORMS) == patch_form(CARD)


def test_a_card_of_pictures_without_a_scale_leaves_the_sides_to_the_graph() -> None:
    fields = {name: getattr(CARD, name) for name in PictureCard.__struct_fields__
              if name != "sizes_px"}  # fmt: skip
    card = PictureCard(sizes_px={"query": (140, 768), "map": (64, 64)}, **fields)
    wide = [Tensor("patch", "FLOAT", (None, 3, 140, 768)), DESCRIPTOR]
    assert refuse_foreign("it", wide, patch_form(card)) == patch_form(card)


@pytest.mark.parametrize(
    "found",
    [
        [PICTURE, DESCRIPTOR],
        [PATCH, VALID, DESCRIPTOR],
        [PATCH],
        [Tensor("patch", "HALF", PATCH.shape), DESCRIPTOR],
        [Tensor("patch", "FLOAT", (1, 3, 64, 64)), DESCRIPTOR],
        [Tensor("patch", "FLOAT", (None, 3, 64)), DESCRIPTOR],
        [Tensor("patch", "FLOAT", (None, 64, 64, 3)), DESCRIPTOR],
        [PATCH, Tensor("descriptor", "FLOAT", (None, 9))],
    ],
)
def test_other_tensors_are_refused_with_what_is_there_and_what_is_needed(
    found: list[Tensor],
) -> None:
    with pytest.raises(ModelError) as refusal:
        refuse_foreign("encoder.onnx", found, *FORMS)
    assert all(str(tensor) in str(refusal.value) for tensor in (*found, *FORMS[0], *FORMS[1]))


def test_lengths_that_are_none_are_free() -> None:
    assert shape_of([-1, 3, "side", None, 0, 7]) == (None, 3, None, None, None, 7)


def test_a_view_that_no_flight_uses_may_have_pictures_of_another_size() -> None:
    card = msgspec.structs.replace(CARD, graphs=CARD.graphs | {"street": "street.onnx"})
    street = [Tensor("patch", "FLOAT", (None, 3, 32, 96)), DESCRIPTOR]
    assert refuse_foreign("it", street, patch_form(card, "street.onnx"))
    with pytest.raises(ModelError, match="no graph of this model"):
        refuse_foreign("it", street, patch_form(card, CARD.graphs["query"]))
