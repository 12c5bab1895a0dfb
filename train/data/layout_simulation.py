"""Layout simulation (GeoDTR+): a pair seen as if the world were mirrored and turned.

A panorama's centre column looks north and its right half east, so

    mirrored west to east   aerial and panorama mirrored along their width
    turned clockwise        aerial rotated; the panorama's columns move to the right by a quarter
                            of its width W for each quarter turn, those that leave enter on the left

One turn ("left" in the published code) moves the last W - ceil(3W/4) columns to the front, three
("right") the first floor(W/4) columns to the end, two ("back") swap the parts left and right of
column floor(W/2): 671 columns move by 167, 167 and 335. A polar-transformed aerial image has a
panorama's columns. MFRGN's and Sample4Geo's joint flip and rotation are the same set of layouts
(their roll, -W // 4 a counter-clockwise quarter, is equal where 4 divides W).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from skyfix.runtime.errors import InputError

from .draws import chance, integers

FLIP_SHARE = 0.5  # published code of GeoDTR+, MFRGN and Sample4Geo
LAYOUTS = 8  # mirrored or not, times four quarter turns


@dataclass(frozen=True)
class Layouts:
    """One layout a pair: mirrored first, then turned."""

    mirrored: torch.Tensor  # (B,) bool
    turns: torch.Tensor  # (B,) int64, clockwise quarters, 0..3


def draw_layouts(count: int, turning: bool, generator: torch.Generator) -> Layouts:
    """Mirrored with probability 1/2; turned by any quarter alike, or never."""
    mirrored = chance(count, FLIP_SHARE, generator)
    turns = integers(count, 0, 3 if turning else 0, generator)
    return Layouts(mirrored, turns)


def draw_other_layouts(count: int, generator: torch.Generator) -> Layouts:
    """One of the seven layouts that change a pair (CHSG's second copies)."""
    drawn = integers(count, 1, LAYOUTS - 1, generator)
    return Layouts(drawn >= LAYOUTS // 2, drawn % 4)


def squares_in_layouts(images: torch.Tensor, layouts: Layouts) -> torch.Tensor:
    """North-up images (B, C, S, S) mirrored and turned; only squares have quarter turns."""
    height, width = images.shape[-2:]
    square = height == width
    if not square and bool((layouts.turns % 2).any()):
        raise InputError(
            f"an aerial image of {height} x {width} px cannot be turned by a quarter: give this "
            "view a square input_px, or take an augmentation for polar images"
        )
    out = _mirrored(images, layouts)
    for turns in (1, 2, 3) if square else (2,):
        out = torch.where(_each(layouts.turns == turns), out.rot90(-turns, (-2, -1)), out)
    return out


def panoramas_in_layouts(images: torch.Tensor, layouts: Layouts) -> torch.Tensor:
    """Panoramas or polar-transformed aerial images (B, C, H, W) mirrored and turned."""
    out = _mirrored(images, layouts)
    width = images.shape[-1]
    shift_px = images.new_tensor([0, width // 4, -(width // 2), -(width // 4)], dtype=torch.int64)
    columns = torch.arange(width, device=images.device)  # (W,)
    source = (columns - shift_px[layouts.turns][:, None]) % width  # (B, W)
    return out.gather(-1, source[:, None, None, :].expand_as(out))


def views_in_layouts(
    views: Mapping[str, torch.Tensor], layouts: Layouts, panoramas: frozenset[str]
) -> dict[str, torch.Tensor]:
    """Both images of each pair in the pair's layout.

    Args:
        views: (B, 3, H, W) each.
        layouts: of the B pairs.
        panoramas: which of the views have a panorama's columns; the others are north-up squares.
    """
    return {
        view: panoramas_in_layouts(images, layouts)
        if view in panoramas
        else squares_in_layouts(images, layouts)
        for view, images in views.items()
    }


def _mirrored(images: torch.Tensor, layouts: Layouts) -> torch.Tensor:
    return torch.where(_each(layouts.mirrored), images.flip(-1), images)


def _each(chosen: torch.Tensor) -> torch.Tensor:
    return chosen[:, None, None, None]
