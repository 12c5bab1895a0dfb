"""Images with the same pixels, found by a hash of all of them.

Two files are the same image when they decode to equal pixels of equal size; their bytes may
differ. Reading a whole data set takes minutes, so the hashes are kept in ROOT/pixel_hashes.csv. A
line of it (hash, bytes, time in ns, path) counts as long as the file's size and time are the same.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from skyfix.runtime.errors import BrokenImageError

from .images import decoded

Hash = str | None  # None: a broken image equals no other
MEMORY = "pixel_hashes.csv"

log = logging.getLogger(__name__)


def pixel_hash(path: Path) -> str:
    """Hash of an image's pixels and size; raises BrokenImageError."""
    pixels = np.asarray(decoded(path))
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def repeated_pairs(
    train: Sequence[tuple[Hash, Hash]], test: Iterable[tuple[Hash, Hash]]
) -> list[bool]:
    """Which training pairs repeat a test pair or an earlier training pair, in both images."""
    seen = {pair for pair in test if None not in pair}
    repeated = []
    for pair in train:
        repeated.append(pair in seen)
        if None not in pair:
            seen.add(pair)
    return repeated


def surplus(items: Iterable[Hashable]) -> int:
    """How many items are there beyond one of each kind; None is no kind."""
    counts = Counter(item for item in items if item is not None)
    return sum(count - 1 for count in counts.values())


class HashedImages:
    """Hashes of the images below a folder, remembered in it where it can be written."""

    def __init__(self, root: Path) -> None:
        self.broken: list[BrokenImageError] = []  # met while hashing
        self._root, self._memory = root, root / MEMORY
        self._known = _known_hashes(self._memory)

    def unread(self, paths: Iterable[Path]) -> list[Path]:
        """The images that have to be read because no hash of them is known."""
        return [path for path in dict.fromkeys(paths) if self._signature(path) not in self._known]

    def hashes(
        self, paths: Iterable[Path], report: Callable[[], None] | None = None
    ) -> dict[Path, Hash]:
        """Hash of every image, None of a broken one; `report` is called after each image read."""
        wanted = tuple(dict.fromkeys(paths))
        unread = self.unread(wanted)
        found: dict[Path, Hash] = {}
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decoding frees the GIL
            for path, value in zip(unread, pool.map(self._hash, unread), strict=True):
                found[path] = value
                if report is not None:
                    report()
        self._known |= {self._signature(path): value for path, value in found.items() if value}
        if unread:
            self._remember()
        return {path: self._known.get(self._signature(path)) for path in wanted}

    def _hash(self, path: Path) -> Hash:
        try:
            return pixel_hash(path)
        except BrokenImageError as error:
            log.warning("%s", error)
            self.broken.append(error)
            return None

    def _signature(self, path: Path) -> str:
        """What changes when the file does."""
        try:
            state = path.stat()
        except OSError:
            return f"-,-,{path}"
        return f"{state.st_size},{state.st_mtime_ns},{path.relative_to(self._root)}"

    def _remember(self) -> None:
        beside = self._memory.with_suffix(f".{os.getpid()}.part")
        lines = [f"{value},{signature}\n" for signature, value in self._known.items()]
        try:
            beside.write_text("".join(lines), encoding="utf-8")
            beside.replace(self._memory)
        except OSError as error:
            log.warning("hashes are not kept for the next time: %s", error)


def _known_hashes(memory: Path) -> dict[str, str]:
    """Signature -> hash; nothing where the file is not there."""
    try:
        lines = memory.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    rows = (line.partition(",") for line in lines)
    return {signature: value for value, _, signature in rows if signature}
