"""The normalisation in the graph is the one that the runtime does in numpy and OpenCV."""

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from skyfix.export.operators import operators_outside
from skyfix.export.pictures import with_preprocessing
from skyfix.runtime.encoder import normalised
from skyfix.runtime.engines.base import ModelCard, TrainingRecord, load_card
from skyfix.runtime.errors import ModelError
from skyfix.runtime.types import Patch

CARD = ModelCard(
    schema=1, name="test", model_id="0" * 16, architecture="test", graphs={}, input_px=16,
    gsd_m=1.0, mean=None, std=None, dimension=8, precision="fp32",
    training=TrainingRecord(config="", steps=0, hours=0, device="", imagery={}), licence="",
)  # fmt: skip
IMAGENET = msgspec.structs.replace(CARD, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
CARDS = {"own pixels": CARD, "mean and std": IMAGENET}
NANO = Path(__file__).resolve().parents[2] / "runtime" / "models" / "nano"

Sizes = tuple[int, int]
FILLS = ("noise", "flat", "nearly flat", "white", "black")
MASKS = ("all", "most", "few", "one", "none")


def graph_of(size: Sizes, opset: int = 20, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network that gives what it is given."""
    shape: list[str | int | None] = ["batch", 3, *size]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["patch"], ["descriptor"])], "identity",
        [helper.make_tensor_value_info("patch", element, shape)],
        [helper.make_tensor_value_info("descriptor", element, shape)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@cache
def front(mode: str, size: Sizes) -> onnxruntime.InferenceSession:
    return session_of(with_preprocessing(graph_of(size), CARDS[mode]))


def patch(seed: int, fill: str, mask: str, size: Sizes) -> Patch:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    if fill == "flat":
        image[:] = rng.integers(0, 256, 3)
    elif fill == "nearly flat":
        image = np.asarray(image // 64 + rng.integers(0, 250), np.uint8)
    elif fill in {"white", "black"}:
        image[:] = 255 if fill == "white" else 0
    share = {"all": 1.0, "most": 0.7, "few": 0.02, "one": 0.0, "none": 0.0}[mask]
    valid = rng.random(size) < share
    if mask == "one":
        valid[rng.integers(size[0]), rng.integers(size[1])] = True
    return Patch(image, valid, 1.0, (0.0, 0.0))


def computed(session: onnxruntime.InferenceSession, patches: list[Patch]) -> NDArray[np.float32]:
    pictures = np.stack([patch.image for patch in patches])
    valid = np.stack([patch.valid for patch in patches]).view(np.uint8)
    (found,) = session.run(None, {"picture": pictures, "valid": valid})
    return np.asarray(found)


@pytest.mark.parametrize("mode", CARDS)
@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(
        st.tuples(st.sampled_from(FILLS), st.sampled_from(MASKS)), min_size=1, max_size=4
    ),
    size=st.sampled_from([(16, 16), (9, 24)]),
)
def test_the_graph_normalises_as_the_runtime_does(
    mode: str, seed: int, kinds: list[tuple[str, str]], size: Sizes
) -> None:
    patches = [patch(seed + index, *kind, size) for index, kind in enumerate(kinds)]
    card = CARDS[mode]
    expected = np.stack([normalised(one, card.mean, card.std) for one in patches])
    assert np.abs(computed(front(mode, size), patches) - expected).max() <= 1e-5


@pytest.mark.parametrize("size", [(128, 128), (384, 384), (140, 768)])
def test_sums_over_large_patches_are_as_exact(size: Sizes) -> None:
    patches = [patch(4, fill, "most", size) for fill in ("noise", "nearly flat", "white")]
    expected = np.stack([normalised(one, None, None) for one in patches])
    assert np.abs(computed(front("own pixels", size), patches) - expected).max() <= 1e-5


def test_a_flat_patch_is_not_stretched_and_what_is_not_valid_is_zero() -> None:
    one = patch(5, "nearly flat", "most", (16, 16))
    found = computed(front("own pixels", (16, 16)), [one])[0]
    seen = one.image[one.valid].astype(float)
    assert seen.std(axis=0).max() < 10  # so that MIN_STD counts: (x - mean) / 10 by hand
    expected = (seen - seen.mean(axis=0)) / 10
    assert np.abs(found[:, one.valid].T - expected).max() <= 1e-5
    assert not found[:, ~one.valid].any()


def test_the_shipped_network_gives_the_same_descriptors_from_pictures() -> None:
    card = load_card(NANO)
    model = onnx.load(NANO / card.graphs["query"])
    side = card.input_px
    patches = [
        patch(seed, fill, mask, (side, side))
        for seed, (fill, mask) in enumerate([("noise", "all"), ("noise", "few"), ("flat", "most")])
    ]
    batch = np.stack([normalised(one, card.mean, card.std) for one in patches])
    (expected,) = session_of(model).run(None, {"patch": batch})
    found = computed(session_of(with_preprocessing(model, card)), patches)
    assert np.abs(found - expected).max() <= 1e-5


def test_the_graph_keeps_its_tensors_and_is_not_changed_itself() -> None:
    model = graph_of((16, 16))
    before = model.SerializeToString()
    result = with_preprocessing(model, CARD)
    assert model.SerializeToString() == before
    assert [value.name for value in result.graph.input] == ["picture", "valid"]
    assert [value.name for value in result.graph.output] == ["descriptor"]
    made = [name for node in result.graph.node for name in node.output]
    assert made.count("patch") == 1
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("mode", CARDS)
def test_bytes_are_cast_at_once_since_tensorrt_has_none_inside(mode: str) -> None:
    graph = with_preprocessing(graph_of((16, 16)), CARDS[mode]).graph
    takers = [node.op_type for node in graph.node if {"picture", "valid"} & set(node.input)]
    assert takers == ["Cast", "Cast"]


@pytest.mark.parametrize("mode", CARDS)
def test_every_operator_is_one_that_tensorrt_10_3_has(mode: str) -> None:
    assert operators_outside(with_preprocessing(graph_of((16, 16)), CARDS[mode])) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph_of((16, 16), element=TensorProto.FLOAT16), "not float32"),
        (graph_of((16, 16), opset=12), "opset 12"),
        (with_preprocessing(graph_of((16, 16)), CARD), "takes picture, valid"),
    ],
)
def test_a_graph_that_pictures_cannot_stand_before_is_refused(
    model: onnx.ModelProto, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        with_preprocessing(model, CARD)
