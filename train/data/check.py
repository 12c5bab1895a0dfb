"""`skyfix data check`: what of a data set is there, what is missing, what is double or broken."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from skyfix.runtime.errors import BrokenImageError, InputError

from .dataset import load_dataset, loader_of
from .duplicates import Hash, HashedImages, repeated_pairs, surplus
from .images import MAX_BROKEN
from .published import PUBLISHED, Count
from .sets import DataSet, ImageSet

NAMED = 5  # missing and broken files that the table names; --json names all


class Part(msgspec.Struct, frozen=True):
    """Images of one view in one split; for the part "pairs", pairs."""

    split: str  # "train", "val", "test", "test 150 m"
    part: str  # "pairs", "drone", "query drone"
    images: int
    images_published: int | None
    places: int | None  # None where every image is a place or its place is unknown
    places_published: int | None
    repeated: int | None = None  # copies of images or pairs of the same split; None: not asked


class Checked(msgspec.Struct, frozen=True):
    """One data set, or one protocol of it."""

    name: str
    parts: list[Part]
    missing: list[str]
    leaked: int | None = None  # training pairs that repeat a test pair or another training pair


class Report(msgspec.Struct, frozen=True):
    """What the check found."""

    dataset: str
    root: str
    checked: list[Checked]
    unusable: list[str]  # protocols that cannot be loaded, and why
    read: int | None  # images read; None: not asked
    broken: list[str]


@dataclass(frozen=True)
class Variant:
    """A way to load a data set that is checked for itself."""

    name: str
    published: str  # key of the published counts
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Pixels:
    """What reading the images told."""

    hashes: dict[Path, Hash] = field(default_factory=dict)
    broken: list[BrokenImageError] = field(default_factory=list)


def check(
    dataset: Annotated[
        str, typer.Argument(help="cvusa, cvact, vigor, university1652, sues200 or denseuav.")
    ],
    root: Annotated[Path, typer.Argument(help="Folder that it was unpacked to.")],
    read: Annotated[bool, typer.Option(help="Read every image, and name the broken ones.")] = False,
    duplicates: Annotated[
        bool,
        typer.Option(
            help="Read every image, and count those with equal pixels. Hashes are kept in "
            "ROOT/pixel_hashes.csv, so that images once read are not read again."
        ),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what of a data set is there, and what is missing.

    Counts stand beside the published ones. A data set that cannot be used at all, a list with a
    wrong line, and more than 1 % broken images end with exit code 2.

    Example:
        skyfix data check university1652 ~/data/University-Release --duplicates
    """
    loader_of(dataset)
    loaded, unusable = _loaded(dataset, root)
    pixels = _read(loaded, root) if read or duplicates else None
    report = Report(
        dataset,
        str(root),
        [_checked(variant, data, pixels if duplicates else None) for variant, data in loaded],
        unusable,
        None if pixels is None else len(pixels.hashes),
        [] if pixels is None else [str(error) for error in pixels.broken],
    )
    if json_output:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    if report.read and len(report.broken) > MAX_BROKEN * report.read:
        raise InputError(
            f"{len(report.broken)} of {report.read} images are broken: copy them again"
        )


def variants(dataset: str, root: Path) -> list[Variant]:
    """What is checked of a data set: VIGOR's protocols and labels, polar images where they are."""
    if dataset == "vigor":
        labels = {"": False} if (root / "splits").is_dir() else {}
        if (root / "splits__corrected").is_dir():
            labels[", corrected labels"] = True
        return [
            Variant(f"vigor, {area} area{name}", f"vigor, {area} area", options)
            for name, corrected in (labels or {"": False}).items()
            for area in ("same", "cross")
            for options in ({"area": area, "corrected": corrected},)
        ]
    plain = Variant(dataset, dataset)
    polar = {"cvusa": "polarmap", "cvact": "ANU_data_small/polarmap"}.get(dataset)
    if polar is not None and (root / polar).is_dir():
        return [plain, Variant(f"{dataset}, polar", dataset, {"polar": True})]
    return [plain]


def _loaded(dataset: str, root: Path) -> tuple[list[tuple[Variant, DataSet]], list[str]]:
    """The variants that load, and why others do not; raises InputError when none does."""
    loaded, errors = [], []
    for variant in variants(dataset, root):
        data = _loaded_or_error(dataset, root, variant)
        if isinstance(data, InputError):
            errors.append(data)
        else:
            loaded.append((variant, data))
    if not loaded:
        raise errors[0]
    return loaded, [str(error) for error in errors]


def _loaded_or_error(dataset: str, root: Path, variant: Variant) -> DataSet | InputError:
    try:
        return load_dataset(dataset, root, **variant.options)
    except InputError as error:
        return error


def _read(loaded: Iterable[tuple[Variant, DataSet]], root: Path) -> Pixels:
    """Read every image once, with a progress bar."""
    from rich.console import Console  # noqa: PLC0415 - only reading takes time enough for a bar
    from rich.progress import Progress  # noqa: PLC0415 - as above

    paths = sorted(
        {path for _, data in loaded for *_, images in _sets(data) for path in images.paths}
    )
    hashed = HashedImages(root)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("reading images", total=len(hashed.unread(paths)))
        hashes = hashed.hashes(paths, lambda: progress.advance(task))
    return Pixels(hashes, hashed.broken)


def _sets(data: DataSet) -> Iterator[tuple[str, str, ImageSet]]:
    """Split, part and images; a set that several tests share comes once."""
    seen: set[int] = set()
    if data.train is not None:
        for view, images in data.train.views.items():
            yield "train", view, images
    for test in data.tests:
        split = re.sub(r"^\w+->\w+", "test", test.name)
        for role, images in (("query", test.query), ("gallery", test.gallery)):
            if id(images) not in seen:
                seen.add(id(images))
                yield split, f"{role} {images.view}", images


def _checked(variant: Variant, data: DataSet, pixels: Pixels | None) -> Checked:
    name, parts = variant.published, []
    if data.train is not None:
        parts.append(_part(name, "train", "pairs", len(data.train.pairs), None, None))
    for split, part, images in _sets(data):
        copies = None if pixels is None else surplus(pixels.hashes[path] for path in images.paths)
        parts.append(_part(name, split, part, len(images), _places(images), copies))
    leaked = None if pixels is None else _leaked(data, pixels)
    return Checked(variant.name, parts, list(data.missing), leaked)


def _part(
    name: str, split: str, part: str, images: int, places: int | None, repeated: int | None
) -> Part:
    published: Count | None = PUBLISHED[name].get((split, part))
    if published is None:
        return Part(split, part, images, None, places, None, repeated)
    return Part(split, part, images, published.images, places, published.places, repeated)


def _places(images: ImageSet) -> int | None:
    """How many places a set shows; None where each image is one, or nobody knows."""
    places = len(np.unique(images.labels))
    one_each = images.view in {"ground", "aerial"}
    return None if one_each or images.labels.min() < 0 else places


def _leaked(data: DataSet, pixels: Pixels) -> int | None:
    """Training pairs that are there again, in both images; None where tests are no pairs."""
    if data.train is None:
        return None
    train = data.train
    query, reference = (train.views[view].paths for view in (train.query, train.reference))
    pairs = [(pixels.hashes[query[a]], pixels.hashes[reference[b]]) for a, b in train.pairs]
    tests = [
        (pixels.hashes[test.query.paths[index]], pixels.hashes[test.gallery.paths[right]])
        for test in data.tests
        if test.truth is not None
        for index, right in enumerate(test.truth[:, 0])
    ]
    return sum(repeated_pairs(pairs, tests))


def _print(report: Report) -> None:
    from rich.console import Console  # noqa: PLC0415 - --json does without
    from rich.table import Table  # noqa: PLC0415 - as above

    console = Console(soft_wrap=True)
    doubles = any(checked.leaked is not None for checked in report.checked)
    for checked in report.checked:
        table = Table(
            "split", "part", box=None, title=checked.name, title_justify="left", pad_edge=False
        )
        for heading in ("found", "published", "places", "published "):
            table.add_column(heading, justify="right")
        if doubles:
            table.add_column("copies", justify="right")
        for part in checked.parts:
            counts = [part.images, part.images_published, part.places, part.places_published]
            table.add_row(part.split, part.part, *map(_cell, counts + [part.repeated] * doubles))
        console.print(table)
        if checked.leaked:
            console.print(
                f"{checked.leaked:,} training pairs repeat a test pair or another training pair"
            )
        _print_list(console.print, "missing", checked.missing)
    _print_list(console.print, "cannot be used", report.unusable)
    if report.read is not None:
        console.print(f"read: {report.read:,} images, {len(report.broken):,} of them broken")
        _print_list(console.print, "broken", report.broken)


def _print_list(say: Callable[[str], None], title: str, sentences: Iterable[str]) -> None:
    """A count, the first sentences, and how many more there are."""
    lines = list(sentences)
    if not lines:
        return
    say(f"{title}: {len(lines):,}")
    for line in lines[:NAMED]:
        say(f"  {line}")
    if len(lines) > NAMED:
        say(f"  and {len(lines) - NAMED:,} more; --json names all")


def _cell(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
