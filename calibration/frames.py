"""The frames that ranges are measured on: as different from each other as the sources allow.

    flight + telemetry                        patches as the aircraft makes them
    folders of pictures (frames, map tiles)   centred squares
    all of these -> fp32 descriptors -> k-centre -> frames

Taking the first N of a flight would show the network one field two hundred times. The greedy
k-centre takes the frame whose descriptor is farthest from all that were taken, so every kind of
ground in the sources counts once before any counts twice.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.encoder import normalised
from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.errors import BrokenImageError, InputError
from skyfix.runtime.replay import Recording
from skyfix.runtime.sense.ortho import patch_from_frame
from skyfix.runtime.sense.pictures import (
    Pixels,
    evenly,
    picture_files,
    read_square,
    scaled_square,
)
from skyfix.runtime.sense.source import open_source
from skyfix.runtime.sense.telemetry import TelemetryRow
from skyfix.runtime.types import Frame, LostFrame, Patch, Reason

MIN_FRAMES = 16  # fewer do not show what values a tensor takes
MAX_CANDIDATES = 1024  # evenly taken from larger sources; a patch of 256 px has 0.26 MB
BATCH = 8

Batch = NDArray[np.float32]
Describe = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Candidate:
    """A patch that may be calibrated on."""

    name: str  # for messages
    patch: Patch


@dataclass(frozen=True)
class Frames:
    """What was chosen."""

    names: tuple[str, ...]
    batch: Batch  # (N, 3, P, P) network inputs
    sha256: str  # of the patches' pixels
    candidates: int  # they were chosen from

    def batches(self) -> Iterator[Batch]:
        """The network inputs in pieces."""
        yield from pieces(self.batch)


def pieces(batch: Batch) -> Iterator[Batch]:
    """A batch of any length in pieces that fit into memory with all their activations."""
    for start in range(0, len(batch), BATCH):
        yield batch[start : start + BATCH]


def flight_candidates(recording: Recording, card: ModelCard) -> list[Candidate]:
    """Patches of a flight as the aircraft makes them; raises InputError for a broken frame.

    Frames that the aircraft would refuse for its attitude or height are left out.
    """
    rows = evenly(recording.rows, MAX_CANDIDATES)
    found: list[Candidate] = []
    refused: Counter[str] = Counter()
    with open_source(recording.frames, rows) as frames:
        for frame, row in zip(frames, rows, strict=True):
            patch = _patch(frame, row, recording, card)
            if isinstance(patch, Patch):
                found.append(Candidate(row.frame, patch))
            else:
                refused[patch.value] += 1
    if not found:
        reasons = ", ".join(f"{count} {name}" for name, count in refused.items())
        raise InputError(f"--frames {recording.frames}: no frame gives a patch ({reasons})")
    return found


def picture_candidates(folder: Path, card: ModelCard) -> list[Candidate]:
    """Centred squares of the pictures in a folder and below; raises InputError."""
    valid = np.ones((card.input_px, card.input_px), bool)
    return [
        Candidate(str(path), Patch(_square(path, card.input_px), valid, card.gsd_m, (0.0, 0.0)))
        for path in evenly(picture_files(folder), MAX_CANDIDATES)
    ]


def chosen_frames(
    candidates: Sequence[Candidate], card: ModelCard, describe: Describe, count: int
) -> Frames:
    """`count` candidates or all, chosen for diversity; raises InputError."""
    if count < MIN_FRAMES:
        raise InputError(f"--count {count} is too few to calibrate on, {MIN_FRAMES} are the least")
    if len(candidates) < MIN_FRAMES:
        raise InputError(
            f"{len(candidates)} usable frames are too few to calibrate on, {MIN_FRAMES} are the "
            "least: give more with another --frames"
        )
    for candidate in candidates:
        _check_content(candidate)
    inputs = np.stack([normalised(c.patch, card.mean, card.std) for c in candidates])
    descriptors = np.concatenate([describe(batch) for batch in pieces(inputs)])
    broken = ~np.isfinite(descriptors).all(axis=1)
    if broken.any():
        raise InputError(
            f"the model gives no number (NaN) on {candidates[int(broken.argmax())].name}: check it "
            "with `skyfix export verify` before it is calibrated"
        )
    order = k_centre(descriptors, count)
    digest = hashlib.sha256()
    for index in order:
        digest.update(candidates[index].patch.image.tobytes())
        digest.update(candidates[index].patch.valid.tobytes())
    names = tuple(candidates[index].name for index in order)
    return Frames(names, inputs[order], digest.hexdigest(), len(candidates))


def k_centre(descriptors: Batch, count: int) -> list[int]:
    """Indices of at most `count` rows: first the most typical, then ever the farthest.

    The greedy choice covers all rows within twice the smallest possible radius (Gonzalez 1985).
    """
    middle = descriptors.mean(axis=0)
    chosen = [int(np.argmin(np.linalg.norm(descriptors - middle, axis=1)))]
    nearest = np.linalg.norm(descriptors - descriptors[chosen[0]], axis=1)
    while len(chosen) < min(count, len(descriptors)):
        nearest[chosen[-1]] = -1.0  # taken, also where another row is its equal
        chosen.append(int(np.argmax(nearest)))
        away = np.linalg.norm(descriptors - descriptors[chosen[-1]], axis=1)
        nearest = np.where(nearest < 0, nearest, np.minimum(nearest, away))
    return chosen


def _patch(
    frame: Frame | LostFrame, row: TelemetryRow, recording: Recording, card: ModelCard
) -> Patch | Reason:
    """The patch of one frame, or why the aircraft makes none; raises InputError for a bad file."""
    if isinstance(frame, LostFrame):
        raise BrokenImageError(
            f"frame {row.frame} of {recording.frames} is missing or cannot be decoded. Remove its "
            "row from the telemetry, or copy the frame again."
        )
    if row.telemetry is None:
        return Reason.TELEMETRY_MISSING
    patch = patch_from_frame(
        frame.image, recording.camera, row.telemetry, card.input_px, card.gsd_m
    )
    if patch is Reason.FRAME_SIZE:
        height, width = frame.image.shape[:2]
        camera = recording.camera
        raise InputError(
            f"frame {row.frame} of {recording.frames} has {width}x{height} px, the camera file "
            f"says {camera.width_px}x{camera.height_px}: give the camera file of these frames"
        )
    return patch


def _square(path: Path, side_px: int) -> Pixels:
    """The largest centred square of a picture, scaled down to the model's size."""
    square = read_square(path)
    if len(square) < side_px:
        raise InputError(
            f"{path} has {len(square)} px on its shorter side, the model takes {side_px}x"
            f"{side_px}: give pictures of at least that size"
        )
    return scaled_square(square, side_px)


def _check_content(candidate: Candidate) -> None:
    """Refuse a patch without any structure: its range is zero."""
    pixels = candidate.patch.image[candidate.patch.valid]
    if pixels.size == 0 or bool((pixels == pixels[0]).all()):
        color = "has no valid pixel" if pixels.size == 0 else "is one single colour"
        raise InputError(
            f"{candidate.name} {color} (all black?): it says nothing about the values that a "
            "network sees. Remove it from the frames."
        )
