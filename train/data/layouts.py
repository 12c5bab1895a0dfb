"""Contrastive hard samples: each pair in two layouts that are negatives of each other (CHSG).

GeoDTR+ (arXiv 2308.09624, section on CHSG) gives the second copy a layout that differs from the
first's. On north-up square patches a layout is one of the eight symmetries of the square, applied
to both views. Rotated by a quarter turn, a copy is a true negative only while the heading error
that the descriptor shall tolerate stays under an eighth of a turn; beyond, only mirrored copies
contrast, since no rotation undoes a mirror.
"""

import torch

MAX_HEADING_FOR_ROTATIONS_DEG = 45.0


def contrasted_layouts(
    camera: torch.Tensor,
    tile: torch.Tensor,
    place: torch.Tensor,
    scene: torch.Tensor,
    heading_deg: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pairs followed by their copies in another layout, each copy in a scene of its own.

    Args:
        camera: (B, 3, P, P).
        tile: (B, 3, P, P).
        place: (B, 2) metres.
        scene: (B,) scene numbers; a copy's scene differs from its original's, so that their
            places are never compared.
        heading_deg: heading error that the descriptor shall tolerate.
    """
    rotations_too = heading_deg < MAX_HEADING_FOR_ROTATIONS_DEG
    layouts = [(True, turns) for turns in range(4)]
    layouts += [(False, turns) for turns in (1, 2, 3)] if rotations_too else []
    drawn = torch.randint(len(layouts), ()).item()
    mirror, turns = layouts[int(drawn)]
    return (
        torch.cat([camera, laid_out(camera, mirror, turns)]),
        torch.cat([tile, laid_out(tile, mirror, turns)]),
        torch.cat([place, place]),
        torch.cat([scene, scene + scene.max() + 1]),
    )


def laid_out(images: torch.Tensor, mirror: bool, turns: int) -> torch.Tensor:
    """Images (B, C, P, P) mirrored left to right, then turned counter-clockwise by quarters."""
    mirrored = images.flip(-1) if mirror else images
    return mirrored.rot90(turns, (-2, -1))
