"""The answer of a challenge whose truth is not public (University-1652, 160k and street).

answer.txt   a line a query, in the order of the challenge's list: the names of the ten most
             similar gallery images without suffix, best first, TAB between them
answer.zip   the same file, as the server takes it
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from skyfix.runtime.errors import InputError, SkyfixError

from .evaluate import DescribedTest, Integers
from .ordering import best

ANSWERS = 10  # names a line


def check_answer_path(path: Path) -> None:
    """Raise InputError where no answer can be written, before hours of describing."""
    if not path.parent.is_dir():
        raise InputError(f"--answer {path}: there is no folder {path.parent}")
    if path.suffix == ".zip":
        raise InputError(f"--answer {path}: name the text file; the zip is written beside it")


def answer_order(described: DescribedTest) -> Integers:
    """(Q, 10) gallery numbers, best first; the first ten stand for a query that cannot be read."""
    test = described.test
    if len(described.gallery.kept) < ANSWERS:
        raise InputError(
            f"an answer names {ANSWERS} gallery images, {test.name} has "
            f"{len(described.gallery.kept)}"
        )
    kept = described.gallery.kept
    order = kept[:ANSWERS][None].repeat(len(test.query), axis=0)
    order[described.query.kept] = kept[best(described.query.rows, described.gallery.rows, ANSWERS)]
    return order


def write_answer(path: Path, order: Integers, gallery: Sequence[Path]) -> Path:
    """Write the answer and the zip beside it, whose path is returned; raises SkyfixError.

    Args:
        path: of the text; its name is kept in the zip.
        order: (Q, 10) gallery numbers, best first.
        gallery: (M,) images.
    """
    names = [image.stem for image in gallery]
    if len(set(names)) < len(names):
        raise InputError(
            "gallery images share their names, so an answer cannot tell them apart: only a "
            "challenge's masked names can be answered with"
        )
    lines = "".join("\t".join(names[item] for item in row) + "\n" for row in order)
    archive = path.with_suffix(".zip")
    text_part, archive_part = (p.with_name(p.name + ".part") for p in (path, archive))
    try:
        text_part.write_text(lines, encoding="utf-8", newline="\n")
        with zipfile.ZipFile(archive_part, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.write(text_part, path.name)
        text_part.replace(path)
        archive_part.replace(archive)
    except OSError as error:
        raise SkyfixError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        text_part.unlink(missing_ok=True)
        archive_part.unlink(missing_ok=True)
    return archive
