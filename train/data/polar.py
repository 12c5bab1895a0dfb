"""`skyfix polar`: aerial images as a panorama's geometry sees them (SAFA's polar transform).

For an image of side S and an output of H x W pixels, output pixel (i, j) is the input at

    rho = S/2 (H - 1 - i) / H       row = S/2 + rho cos(2 pi j / W)
                                    col = S/2 - rho sin(2 pi j / W)

bilinear, 0 outside. The top row is the outer circle, the bottom one the centre; column 0 looks
south, W/4 west, W/2 north, 3W/4 east: north is in the middle, as in the panoramas.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skyfix.runtime.errors import BrokenImageError, InputError

from .files import is_image
from .images import BrokenImages, Pixels, decoded

DEFAULT_SIZE = "122x671"  # GeoDTR+; H x W


class Summary(msgspec.Struct, frozen=True):
    """A run in one line."""

    written: int
    kept: int  # were there already
    broken: tuple[str, ...]  # could not be read; each has been named in a warning
    out: str


def polar_from_square(image: Pixels, size_px: tuple[int, int]) -> Pixels:
    """The polar transform (H, W, C) of an aerial image (S, S, C).

    Args:
        image: north up, its centre where the panorama was taken.
        size_px: (H, W) of the result.
    """
    side, width = image.shape[:2]
    if side != width:
        raise InputError(f"a polar transform needs a square image, not {side} x {width} px")
    places, weights = _samples(side, size_px)
    pixels = image.reshape(side * side, -1).astype(np.float32)  # (S * S, C)
    out = np.zeros((places.shape[1], pixels.shape[1]), np.float32)
    for place, weight in zip(places, weights, strict=True):
        out += pixels[place] * weight[:, None]
    return np.rint(out).astype(np.uint8).reshape(*size_px, -1)


@lru_cache(maxsize=4)  # a data set's images have one size
def _samples(side: int, size_px: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The four neighbours (4, H * W) of each output pixel, flat, and their bilinear weights."""
    height, width = size_px
    rho = side / 2 * (height - 1 - np.arange(height)) / height
    angle = 2 * np.pi * np.arange(width) / width
    row = side / 2 + rho[:, None] * np.cos(angle)  # (H, W)
    column = side / 2 - rho[:, None] * np.sin(angle)
    places, weights = [], []
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    for below in (0, 1):
        for right in (0, 1):
            y, x = top + below, left + right
            weight = (1 - np.abs(row - y)) * (1 - np.abs(column - x))
            inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
            places.append(np.where(inside, y * side + x, 0).ravel())
            weights.append(np.where(inside, weight, 0.0).ravel())
    return np.stack(places), np.stack(weights).astype(np.float32)


def size_from_text(text: str) -> tuple[int, int]:
    """(H, W) of "122x671"; raises InputError."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--size {text}: write height x width in pixels, as {DEFAULT_SIZE}")
    return int(parts[0]), int(parts[1])


def polar_folder(
    folder: Annotated[Path, typer.Argument(help="Aerial images, searched to any depth.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Gets the same names, as .png.")],
    size: Annotated[str, typer.Option(help="Height x width in pixels.")] = DEFAULT_SIZE,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON.")] = False,
) -> None:
    """Polar-transform a folder of aerial images, north in the middle column.

    Stopped and started again, it goes on with the images that are not there yet.

    Example:
        skyfix polar CVUSA/bingmap -o CVUSA/polarmap
    """
    size_px = size_from_text(size)
    columns = TextColumn("polar"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        summary = transform_folder(folder, out, size_px, progress)
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        kept = f", {summary.kept} were there" if summary.kept else ""
        typer.echo(f"{out}: {summary.written} images of {size} px written{kept}")


def transform_folder(
    folder: Path, out: Path, size_px: tuple[int, int], progress: Progress
) -> Summary:
    """Transform what is not in `out` yet; broken files are skipped until they are too many."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the one of the aerial images")
    paths = sorted(path for path in folder.rglob("*") if is_image(path.name))
    if not paths:
        raise InputError(f"{folder} holds no images; name the folder of the aerial ones")
    broken = BrokenImages()
    written = 0
    for path in progress.track(paths, description="polar"):
        target = (out / path.relative_to(folder)).with_suffix(".png")
        try:
            if not target.is_file():
                _write_png(target, _transformed(path, size_px))
                written += 1
            broken.count()
        except BrokenImageError as error:
            broken.record(path, error)
    broken.check()
    kept = len(paths) - written - broken.failed
    return Summary(written, kept, tuple(map(str, broken.paths)), str(out))


def _transformed(path: Path, size_px: tuple[int, int]) -> Pixels:
    image = np.asarray(decoded(path))
    try:
        return polar_from_square(image, size_px)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _write_png(path: Path, image: Pixels) -> None:
    """Beside its name first, so that a killed run leaves no half image that would be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV's encoder is several times as fast as Pillow's; it takes BGR
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    beside = path.with_suffix(".png.part")
    beside.write_bytes(data.tobytes())
    beside.replace(path)
