"""What a batch goes through on its way to the network, by name: layouts, changes, normalisation.

    views in 0..1 -> one layout a pair -> (CHSG: copies in another layout) -> each image on its own
                  -> normalised

All randomness comes from the generator, which lives on the images' device; every image, or pair,
draws for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from skyfix.runtime.errors import InputError

from .draws import chance, integers
from .erasing import erased
from .layout_simulation import (
    FLIP_SHARE,
    Layouts,
    draw_layouts,
    draw_other_layouts,
    squares_in_layouts,
    views_in_layouts,
)
from .mfrgn_augment import GRID_RATIO, PANORAMA_GRID_RATIO, mfrgn_changed
from .normalise import normalised
from .semantic import Strength, semantically_changed
from .university_augment import university_changed

Views = dict[str, torch.Tensor]  # view -> (B, 3, H, W)
Augmentation = Callable[[Views, torch.Generator], Views]

PANORAMAS = frozenset({"ground"})  # with a polar-transformed aerial image, that one too
ORBITAL = frozenset({"satellite", "map"})  # turned by any quarter where a drone's image is not
ERASED_SHARE = 0.4  # the first stage of the University-1652 challenge report


@dataclass(frozen=True)
class Recipe:
    """The parts of an augmentation; a part that is None leaves the images alone."""

    layout: Augmentation | None = None  # of pairs
    pixels: Callable[[str, torch.Tensor, torch.Generator], torch.Tensor] | None = None  # of a view
    erasing: float = 0.0  # share of the images that are no satellite's, after normalisation
    panoramas: frozenset[str] | None = PANORAMAS  # None: views are no pairs, CHSG has no sense


def augmentation_from_name(name: str, chsg: bool = False) -> Augmentation:
    """The augmentation that a configuration names; its results are normalised.

    Args:
        name: a key of RECIPES; another raises InputError.
        chsg: the batch is followed by its copies in other layouts, twice as many pairs.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise InputError(f"no augmentation {name!r}: take one of {', '.join(RECIPES)}")
    if chsg and recipe.panoramas is None:
        raise InputError(f"CHSG needs pairs that share a layout; {name} draws each view alone")
    return partial(_augmented, recipe, chsg)


def _augmented(recipe: Recipe, chsg: bool, views: Views, generator: torch.Generator) -> Views:
    views = recipe.layout(views, generator) if recipe.layout else views
    if chsg and recipe.panoramas is not None:
        others = draw_other_layouts(_pairs(views), generator)
        copies = views_in_layouts(views, others, recipe.panoramas)
        views = {view: torch.cat([views[view], copies[view]]) for view in views}
    if recipe.pixels:
        views = {view: recipe.pixels(view, views[view], generator) for view in views}
    views = {view: normalised(images) for view, images in views.items()}
    if recipe.erasing:
        for view in (view for view in views if view not in ORBITAL):
            views[view] = erased(views[view], recipe.erasing, generator)
    return views


def _pairs(views: Views) -> int:
    return len(next(iter(views.values())))


def _joint_layouts(
    turning: bool, panoramas: frozenset[str], views: Views, generator: torch.Generator
) -> Views:
    """Both images of each pair mirrored and turned alike."""
    return views_in_layouts(views, draw_layouts(_pairs(views), turning, generator), panoramas)


def _drone_layouts(views: Views, generator: torch.Generator) -> Views:
    """Both images of each pair mirrored alike; only the satellite's is turned, by any quarter."""
    count = _pairs(views)
    mirrored, still = chance(count, FLIP_SHARE, generator), integers(count, 0, 0, generator)
    turns = integers(count, 0, 3, generator)
    return {
        view: squares_in_layouts(images, Layouts(mirrored, turns if view in ORBITAL else still))
        for view, images in views.items()
    }


def _geodtr_pixels(
    strength: Strength, _view: str, images: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    return semantically_changed(images, strength, generator)


def _mfrgn_pixels(view: str, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    ratio = PANORAMA_GRID_RATIO if view in PANORAMAS else GRID_RATIO
    return mfrgn_changed(images, ratio, generator)


def _university_pixels(
    jitter: bool, view: str, images: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    return university_changed(images, view in ORBITAL, jitter, generator)


def _geodtr(strength: Strength, turning: bool, panoramas: frozenset[str]) -> Recipe:
    layout = partial(_joint_layouts, turning, panoramas)
    return Recipe(layout, partial(_geodtr_pixels, strength), panoramas=panoramas)


def _university(jitter: bool = False, erasing: float = 0.0) -> Recipe:
    return Recipe(None, partial(_university_pixels, jitter), erasing, panoramas=None)


_POLAR = PANORAMAS | {"aerial"}
_TWO_VIEW = Recipe(partial(_joint_layouts, True, PANORAMAS), _mfrgn_pixels)
_DRONE = Recipe(_drone_layouts, _mfrgn_pixels, panoramas=frozenset())

RECIPES = {
    "none": Recipe(),
    "geodtr_weak": _geodtr("weak", False, PANORAMAS),
    "geodtr_weak_polar": _geodtr("weak", False, _POLAR),
    "geodtr_strong": _geodtr("strong", True, PANORAMAS),
    "geodtr_strong_polar": _geodtr("strong", True, _POLAR),
    "mfrgn": _TWO_VIEW,
    "mfrgn_drone": _DRONE,
    "sample4geo": _TWO_VIEW,
    "sample4geo_drone": _DRONE,
    "university1652": _university(),
    "university1652_erasing": _university(erasing=ERASED_SHARE),
    "university1652_jitter": _university(jitter=True),
}
