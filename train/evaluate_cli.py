"""`skyfix evaluate`: a checkpoint's scores on a data set, beside the published ones."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skyfix.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from .data.sets import TestSet
    from .descriptors import Report


def evaluate_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    dataset: Annotated[
        str,
        typer.Option(help="cvusa, cvact, vigor, university1652, sues200 or denseuav."),
    ],
    root: Annotated[Path, typer.Option(help="Folder that the data set was unpacked to.")],
    test: Annotated[
        list[str] | None, typer.Option(help="Only this test, may be repeated. Default: all.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the data set, as area=cross (VIGOR) or polar=true."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 2,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")
    ] = "auto",
    flip: Annotated[
        bool | None,
        typer.Option(
            help="Sum each feature with its mirror image's. Default: as the network was trained "
            "for; University-1652's are summed."
        ),
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(help="Write a challenge's answer to this text file, and a zip beside it."),
    ] = None,
    descriptors: Annotated[
        Path | None, typer.Option(help="Keep all descriptors in this folder, as .npy.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Scores as JSON.")] = False,
) -> None:
    """Score a checkpoint by the protocol of a published data set.

    Recall at 1, 5, 10 and one percent, with the hit rate on VIGOR, the trapezoidal average
    precision on University-1652 and SUES-200, and SDM and MA on DenseUAV. A right item that ties
    with others counts as the first of them where each query has one right item; where it has
    many, ties keep the gallery's order.

    Descriptors are streamed to disk, 4 bytes a number, below TMPDIR unless --descriptors names a
    folder.

    Example:
        skyfix evaluate runs/geodtr_plus --dataset cvusa --root data/CVUSA
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    import cv2

    from .answer import answer_order, check_answer_path, write_answer
    from .checkpoint import load_network, load_record
    from .data.dataset import load_dataset
    from .descriptors import Describer
    from .evaluate import describe_test, evaluate
    from .evaluate_choices import (
        chosen_tests,
        flips,
        options_from_words,
        resize_of,
        vigor_k_of,
    )
    from .evaluate_report import report_scores

    cv2.setNumThreads(0)  # workers are forked, and OpenCV's thread pool does not survive a fork
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is visible; name --device cpu to go without one")
    if answer is not None:
        check_answer_path(answer)
    record = load_record(checkpoint)
    describer = Describer(
        load_network(checkpoint),
        torch.device(device),
        resize_of(record),
        flip=flips(record) if flip is None else flip,
        batch=batch,
        workers=workers,
    )
    data = load_dataset(dataset, root, **options_from_words(option or []))
    tests = chosen_tests(data, test or [], answer, without_truth=descriptors is not None)
    if data.missing:
        typer.echo(f"{len(data.missing)} things are missing, first: {data.missing[0]}", err=True)
    evaluations = []
    with _descriptor_folder(descriptors) as folder, _bar(tests) as report:
        for one in tests:
            described = describe_test(describer, one, folder, report)
            evaluations.append(evaluate(described, vigor_k_of(record)))
            if answer is not None:
                archive = write_answer(answer, answer_order(described), one.gallery.paths)
                typer.echo(f"{answer}: {len(one.query)} lines; upload {archive}", err=True)
    report_scores(dataset, str(checkpoint), evaluations, as_json=as_json)


@contextlib.contextmanager
def _descriptor_folder(kept: Path | None) -> Iterator[Path]:
    """The user's folder, or one that is removed."""
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--descriptors {kept}: {error.strerror}") from error
    yield kept


@contextlib.contextmanager
def _bar(tests: Sequence["TestSet"]) -> Iterator["Report"]:
    """A bar on stderr where someone watches."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    images = sum(len(test.query) + len(test.gallery) for test in tests)
    console = Console(stderr=True)
    with Progress(
        TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("images", total=images)
        yield lambda done: bar.advance(task, done)
