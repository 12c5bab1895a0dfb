"""Image sets to descriptors on disk: 100,000 images need no more memory than a batch.

    paths -> worker processes: pixels -> batch, normalised -> network -> rows of a .npy file

The file is written beside its name and renamed. Images that cannot be read have no row; they are
named, and more than one in a hundred stops.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from skyfix.runtime.errors import BrokenImageError, InputError, ModelError, SkyfixError

from .data.images import MAX_BROKEN, MIN_READ, Pixels, Resize, read_image
from .data.normalise import normalised
from .data.sets import ImageSet
from .models.network import Network
from .models.three_view import University1652

GROUND_VIEWS = frozenset({"camera", "drone", "ground", "street", "google"})
MAP_VIEWS = frozenset({"map", "satellite", "aerial"})

Rows = NDArray[np.float32]
Report = Callable[[int], None]  # is told how many more images are done

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Described:
    """The descriptors of an image set."""

    rows: Rows  # (n, D) unit rows, memory-mapped
    kept: NDArray[np.int64]  # (n,) numbers of the images that could be read
    broken: tuple[Path, ...]


@dataclass(frozen=True)
class Describer:
    """A network, and how its images are read."""

    network: Network
    device: torch.device
    resize: Resize
    flip: bool = False  # sum each feature with its mirror image's (University-1652)
    batch: int = 32
    workers: int = 2

    def describe(self, images: ImageSet, path: Path, report: Report) -> Described:
        """Write the descriptors of a set to `path` (.npy); raises InputError, ModelError."""
        view = view_for(self.network.views, images.view)
        kept: list[int] = []
        broken: list[Path] = []
        was_training = self.network.training
        self.network.to(self.device).eval()
        with RowFile(path, len(images)) as file:
            for batch in self._batches(images, view):
                for error_path, error in batch.broken:
                    log.warning("skipped: %s", error)
                    broken.append(error_path)
                _stop_if_too_many(broken, len(images))
                if batch.numbers:
                    file.append(self._encode(view, batch.pixels))
                kept += batch.numbers
                report(len(batch.numbers) + len(batch.broken))
        self.network.train(was_training)
        if not kept:
            raise InputError(f"no image of {images.view} can be read: {broken[0]}")
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        return Described(rows, np.array(kept, np.int64), tuple(broken))

    def _batches(self, images: ImageSet, view: str) -> Iterator["ReadBatch"]:
        batches = _Batches(images, self.network.input_px[view], self.resize, self.batch)
        loader: DataLoader[ReadBatch] = DataLoader(
            batches, batch_size=None, num_workers=self.workers
        )
        return iter(loader)

    @torch.inference_mode()
    def _encode(self, view: str, pixels: torch.Tensor) -> Rows:
        """Unit descriptors (b, D) of bytes (b, H, W, 3)."""
        images = normalised(pixels.to(self.device).permute(0, 3, 1, 2).float() / 255)
        rows: Rows = descriptors(self.network, view, images, flip=self.flip).float().cpu().numpy()
        if not np.isfinite(rows).all():
            raise ModelError(
                "the network's descriptors are not finite: training has diverged. Evaluate an "
                "earlier checkpoint"
            )
        return rows


def descriptors(network: Network, view: str, images: torch.Tensor, *, flip: bool) -> torch.Tensor:
    """Unit descriptors (B, D) of normalised images, summed with the mirror images' on request.

    University-1652 sums features before they get unit length, which its network does itself.
    """
    if not flip:
        return network.encode(view, images).descriptor
    if isinstance(network, University1652):
        return network.flip_summed(view, images)
    mirrored = network.encode(view, images.flip(-1)).descriptor
    return functional.normalize(network.encode(view, images).descriptor + mirrored, dim=1)


def view_for(views: tuple[str, ...], wanted: str) -> str:
    """The network's view that encodes images of a data set's view; raises InputError.

    It is the one of the same name; "google" images go where "street" ones go; otherwise it is the
    network's only view from the ground or the air ("camera", "drone", "ground", "street"), or its
    only one of a map ("map", "satellite", "aerial").
    """
    for name in (wanted, "street" if wanted == "google" else wanted):
        if name in views:
            return name
    side = next((names for names in (GROUND_VIEWS, MAP_VIEWS) if wanted in names), frozenset())
    same_side = [view for view in views if view in side]
    if len(same_side) != 1:
        raise InputError(
            f"this network encodes the views {', '.join(views)}, and none of them stands for "
            f"{wanted!r}. Take a checkpoint that was trained for this data set's views"
        )
    return same_side[0]


class RowFile:
    """A .npy file whose rows come in batches; an error removes it, success renames it."""

    def __init__(self, path: Path, expected_rows: int) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._expected_rows = expected_rows
        self._rows, self._columns = 0, 0

    def __enter__(self) -> "RowFile":  # noqa: PYI034  typing.Self is newer than Python 3.10
        try:
            self._file = self._part.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def append(self, rows: Rows) -> None:
        """Add rows (b, D); raises SkyfixError where the disk is full."""
        try:
            if not self._columns:
                self._columns = rows.shape[1]
                self._write_header(self._expected_rows)
            self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        except OSError as error:
            raise self._failed(error) from error
        self._rows += len(rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._file.seek(0)
                self._write_header(self._rows)  # NumPy pads headers: as long as the first one
                self._file.close()
                self._part.replace(self._path)
        except OSError as failure:
            raise self._failed(failure) from failure
        finally:
            with contextlib.suppress(OSError):  # of a full disk: it has been told
                self._file.close()
            self._part.unlink(missing_ok=True)

    def _write_header(self, rows: int) -> None:
        np.lib.format.write_array_header_1_0(
            self._file,
            {"descr": "<f4", "fortran_order": False, "shape": (rows, self._columns)},
        )

    def _failed(self, error: OSError) -> SkyfixError:
        return SkyfixError(
            f"{self._path} cannot be written: {error.strerror}. --descriptors names another folder"
        )


@dataclass(frozen=True)
class ReadBatch:
    """Images of a batch that could be read, and the others."""

    pixels: torch.Tensor  # (b, H, W, 3) bytes
    numbers: list[int]  # of these images in their set
    broken: list[tuple[Path, str]]  # file, and what is wrong with it


class _Batches(Dataset[ReadBatch]):
    """Batch i of a set, in its order."""

    def __init__(
        self, images: ImageSet, size_px: tuple[int, int], resize: Resize, batch: int
    ) -> None:
        self._images, self._size_px, self._resize, self._batch = images, size_px, resize, batch

    def __len__(self) -> int:
        return math.ceil(len(self._images) / self._batch)

    def __getitem__(self, index: int) -> ReadBatch:
        start = index * self._batch
        if start >= len(self._images):
            raise IndexError(index)  # ends an iteration without workers
        pixels, numbers, broken = list[Pixels](), list[int](), list[tuple[Path, str]]()
        for number in range(start, min(start + self._batch, len(self._images))):
            path = self._images.paths[number]
            try:
                pixels.append(read_image(path, self._size_px, self._images.rows, self._resize))
                numbers.append(number)
            except BrokenImageError as error:
                broken.append((path, str(error)))
        stacked = np.stack(pixels) if pixels else np.empty((0, *self._size_px, 3), np.uint8)
        return ReadBatch(torch.from_numpy(stacked), numbers, broken)


def _stop_if_too_many(broken: list[Path], images: int) -> None:
    """The rule of data/images.py, of the whole set: one of a small set may be broken."""
    if len(broken) > MAX_BROKEN * max(images, MIN_READ):
        raise InputError(
            f"{len(broken)} images of {images} cannot be read so far, the first is {broken[0]}. "
            "Copy the data again; `skyfix data check DATASET ROOT --read` names every broken file"
        )
