"""The data sets by name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyfix.runtime.errors import InputError

from . import cvact, cvusa, denseuav, sues200, university1652, vigor
from .sets import DataSet

LOADERS: dict[str, Callable[..., DataSet]] = {
    "cvusa": cvusa.load,
    "cvact": cvact.load,
    "vigor": vigor.load,
    "university1652": university1652.load,
    "sues200": sues200.load,
    "denseuav": denseuav.load,
}


def load_dataset(name: str, root: Path, **options: Any) -> DataSet:
    """What a data set's lists and folders say; raises InputError.

    Args:
        name: one of LOADERS.
        root: folder that the data set was unpacked to.
        options: as the loader's arguments: CVUSA polar, drop_duplicates; CVACT polar, processed,
            crop; VIGOR area, corrected; SUES-200 heights.
    """
    loader = loader_of(name)
    known = set(inspect.signature(loader).parameters) - {"root"}
    for option in sorted(set(options) - known):
        takes = ", ".join(sorted(known)) or "none"
        raise InputError(f"the data set {name} has no option {option}; its options: {takes}")
    if not root.is_dir():
        raise InputError(f"{root} is no folder. Name the one that {name} was unpacked to")
    return loader(root, **options)


def loader_of(name: str) -> Callable[..., DataSet]:
    """The loader of a data set; raises InputError."""
    if name not in LOADERS:
        raise InputError(f"no data set is called {name!r}; there are {', '.join(LOADERS)}")
    return LOADERS[name]
