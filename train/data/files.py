"""Lists and folders of data sets: text lines with their numbers, images by class, what is there.

Folders are listed once each instead of asking for every file: data sets hold 100,000 files, and
asking is slow on network disks.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyfix.runtime.errors import InputError

from .sets import ImageSet

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
PLACE_UNKNOWN = -1


@dataclass(frozen=True)
class Line:
    """One line of a list, cut into columns."""

    file: Path
    number: int  # from 1
    columns: tuple[str, ...]

    @property
    def where(self) -> str:
        """Its file and number, as messages say them."""
        return f"{self.file} line {self.number}"

    def number_at(self, column: int) -> float:
        """A column as a number; raises InputError."""
        try:
            return float(self.columns[column])
        except ValueError:
            raise InputError(
                f"{self.where}: column {column + 1} is no number: {self.columns[column]!r}"
            ) from None


class Disk:
    """Which files are there."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def has(self, path: Path) -> bool:
        """Whether a file or folder is there."""
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = frozenset(names_in(folder))
        return path.name in self._names[folder]

    def first(self, paths: Iterable[Path]) -> Path | None:
        """The first of these that is there."""
        return next((path for path in paths if self.has(path)), None)


def read_lines(path: Path, columns: int | tuple[int, ...], separator: str) -> Iterator[Line]:
    """The lines of a list that are not empty; raises InputError naming file and line.

    Args:
        path: a text file.
        columns: how many a line must have, or the numbers that are allowed.
        separator: "," or " " (then any white space).
    """
    allowed = (columns,) if isinstance(columns, int) else columns
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list: {error}") from error
    for number, row in enumerate(text.splitlines(), start=1):
        cells = row.split() if separator == " " else row.split(separator)
        line = Line(path, number, tuple(cell.strip() for cell in cells))
        if not any(line.columns):
            continue
        if len(cells) not in allowed:
            wanted = " or ".join(str(count) for count in allowed)
            raise InputError(f"{line.where}: {len(cells)} columns where {wanted} belong")
        yield line


def names_in(folder: Path) -> list[str]:
    """What lies right in a folder, in order; nothing where the folder is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def is_image(name: str) -> bool:
    """Whether a file name is one of an image; files of macOS ("._x.jpg") are none."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def images_of(folder: Path) -> tuple[Path, ...]:
    """Image files right in a folder, by name; none where it is not there."""
    return tuple(folder / name for name in names_in(folder) if is_image(name))


def images_by_class(view: str, folder: Path, missing: list[str] | None = None) -> ImageSet | None:
    """Images of FOLDER/<number>/, labelled with the number; None where the folder is not there.

    Classes without images are told to `missing`, or tolerated where that is None: labels are the
    folders' own numbers, so nothing shifts.
    """
    if not folder.is_dir():
        return None
    paths: list[Path] = []
    labels: list[int] = []
    for name in names_in(folder):
        if not name.isdecimal():
            continue
        images = images_of(folder / name)
        if not images and missing is not None:
            missing.append(f"class without images: {folder / name}")
        paths.extend(images)
        labels.extend([int(name)] * len(images))
    if not paths:
        return None
    return ImageSet(view, tuple(paths), np.array(labels, np.int64))


def merged(sets: Sequence[ImageSet]) -> ImageSet:
    """Sets of one view, without positions, as one."""
    paths = tuple(path for images in sets for path in images.paths)
    return ImageSet(sets[0].view, paths, np.concatenate([images.labels for images in sets]))
