"""The tensors by which a graph is known as one of ours, whoever runs it.

    patch (B, 3, H, W) float32                          ->  descriptor (B, D) float32
    picture (B, H, W, 3), valid (B, H, W), both uint8   ->  descriptor (B, D) float32

The second form normalises the pictures itself (export/pictures.py); only TensorRT's graphs have it.
A graph of another exporter is refused when it is loaded, not at the first frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import ModelError
from .base import GraphCard, ModelCard

PATCH_NAME, PICTURE_NAME, VALID_NAME = "patch", "picture", "valid"
DESCRIPTOR_NAME = "descriptor"
FLOAT, BYTE = "float32", "uint8"
WORDS = {  # of onnxruntime, OpenVINO and TensorRT for the same two types
    "tensor(float)": FLOAT, "f32": FLOAT, "FLOAT": FLOAT,
    "tensor(uint8)": BYTE, "u8": BYTE, "UINT8": BYTE,
}  # fmt: skip

Shape = tuple[int | None, ...]  # None where any length will do


class Sides(Protocol):
    """A shape as onnxruntime, OpenVINO or TensorRT give it."""

    def __len__(self) -> int: ...
    def __getitem__(self, axis: int, /) -> object: ...


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a graph."""

    name: str
    type: str  # in the library's own word
    shape: Shape

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.name} {WORDS.get(self.type, self.type)} ({sides})"

    def fixed(self) -> tuple[int, ...]:
        """The sides behind the batch, as far as they are fixed."""
        return tuple(side for side in self.shape[1:] if side is not None)

    def serves_as(self, wanted: "Tensor") -> bool:
        """Whether it takes what the wanted one does: any batch, and sides that agree."""
        if (self.name, WORDS.get(self.type)) != (wanted.name, wanted.type):
            return False
        if len(self.shape) != len(wanted.shape) or self.shape[0] is not None:
            return False
        sides = zip(self.shape[1:], wanted.shape[1:], strict=True)
        return all(mine == theirs or None in (mine, theirs) for mine, theirs in sides)


def shape_of(sides: Sides) -> Shape:
    """A shape in any library's manner: what is no length of its own (-1, a name) is free."""
    found = [sides[axis] for axis in range(len(sides))]  # TensorRT's Dims has no iterator
    return tuple(side if isinstance(side, int) and side > 0 else None for side in found)


FLOWN = {"query", "map"}


def patch_form(card: GraphCard, file: str = "") -> tuple[Tensor, ...]:
    """What a graph of a card takes and gives; views that no flight uses have any size."""
    views = {view for view, graph in card.graphs.items() if graph == file}
    flown = not views or bool(views & FLOWN)
    side = card.input_px if isinstance(card, ModelCard) and flown else None
    return (Tensor(PATCH_NAME, FLOAT, (None, 3, side, side)), _descriptor(card))


def picture_form(card: GraphCard) -> tuple[Tensor, ...]:
    """What a graph that normalises takes and gives."""
    side = card.input_px if isinstance(card, ModelCard) else None
    return (
        Tensor(PICTURE_NAME, BYTE, (None, side, side, 3)),
        Tensor(VALID_NAME, BYTE, (None, side, side)),
        _descriptor(card),
    )


def refuse_foreign(
    where: str, found: Sequence[Tensor], *forms: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The form that a graph's tensors have; raises ModelError where they have none of them."""
    by_name = {tensor.name: tensor for tensor in found}
    for form in forms:
        if len(by_name) == len(form) and all(_fits(by_name, wanted) for wanted in form):
            return form
    wanted = " or ".join("; ".join(map(str, form)) for form in forms)
    raise ModelError(
        f"{where} is no graph of this model. It has: {'; '.join(map(str, found))}. "
        f"Needed: {wanted}. Graphs of other exporters cannot be taken as they are: "
        "export the checkpoint with `skyfix export`."
    )


def _fits(found: Mapping[str, Tensor], wanted: Tensor) -> bool:
    return wanted.name in found and found[wanted.name].serves_as(wanted)


def _descriptor(card: GraphCard) -> Tensor:
    return Tensor(DESCRIPTOR_NAME, FLOAT, (None, card.dimension))
