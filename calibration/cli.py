"""`skyfix calibrate`: from a model and frames to the table that an int8 export is made with."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyfix.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from skyfix.runtime.engines.base import ModelCard
    from skyfix.runtime.maps.pack import TilePack

    from .calibrate import Progress
    from .frames import Candidate, Frames
    from .pack import PackQueries

DEFAULT_METHOD = "minmax"
DEFAULT_COUNT = 128
MAX_QUERIES = 256  # frames that are looked for on the pack


def calibrate(
    model: Annotated[str, typer.Argument(help="fp32 model folder, or name of a shipped model.")],
    frames: Annotated[
        list[str],
        typer.Option(help="Folder of pictures, or the frames of a flight; again for more."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the table (JSON).")],
    method: Annotated[
        str, typer.Option(help="How ranges are chosen: minmax, percentile, entropy or mse.")
    ] = DEFAULT_METHOD,
    telemetry: Annotated[
        str | None,
        typer.Option(help="flight.csv or 'exif' of the first --frames: patches as in flight."),
    ] = None,
    camera: Annotated[Path | None, typer.Option(help="camera.yaml of the first --frames.")] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Tile pack of this model: does int8 find the same tiles?")
    ] = None,
    count: Annotated[int, typer.Option(help="Frames that are chosen, at most.")] = DEFAULT_COUNT,
    keep_worst: Annotated[
        int, typer.Option(min=0, help="Layers of a graph that stay in floating point.")
    ] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    r"""Measure on real frames which int8 scales a model's layers need, and what int8 costs.

    Beside the table a picture of the same name shows the layers and the descriptors.

    Example:
        skyfix calibrate models/nano --frames flight/frames --telemetry flight.csv \
            --camera camera.yaml --frames pictures -o nano.calibration.json
    """
    import msgspec
    from rich.console import Console

    from skyfix.runtime.canvas import write_picture
    from skyfix.runtime.encoder import model_folder
    from skyfix.runtime.engines.base import load_card
    from skyfix.runtime.files import write_json
    from skyfix.runtime.maps.pack import TilePack

    from .calibrate import calibrated
    from .frames import chosen_frames
    from .pack import pack_cost
    from .picture import draw_calibration
    from .report import print_report, summary_of
    from .sensitivity import described
    from .table import method_from_text

    chosen_method = method_from_text(method)
    check_output(output)
    folder = model_folder(model)
    card = load_card(folder)
    opened = None if pack is None else TilePack.open(pack, model_id=card.model_id)
    flight, pictures = candidates_from(frames, telemetry, camera, card)
    session = session_from(folder / card.graphs["query"])
    with progress_bar() as progress:
        progress("frames", 0, len(flight) + len(pictures))
        chosen = chosen_frames(
            [*flight, *pictures], card, lambda batch: described(session, batch), count
        )
        report = calibrated(
            folder, card, chosen, chosen_method, keep_worst=keep_worst, progress=progress,
            queries=None if opened is None else queries_of(opened, card, flight, chosen, telemetry),
        )  # fmt: skip
    cost = None if opened is None else pack_cost(opened, described(session, chosen.batch))
    write_json(output, report.table)
    for graph in report.graphs:
        title = f"{card.name}, {graph.file}: {method} ranges of {len(chosen.batch)} frames"
        image = draw_calibration(title, graph.calibration.layers, graph.cosines)
        write_picture(picture_path(output, graph.file, len(report.graphs)), image)
    if json_output:
        print(msgspec.json.encode(summary_of(output, report, cost)).decode())
    else:
        print_report(Console(), output, report, cost)


def check_output(output: Path) -> None:
    """Refuse a place where no table can be written, before minutes are spent on it."""
    if output.is_dir():
        raise InputError(f"-o {output} is a folder. Name a file in it.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"-o {output}: there is no folder {output.parent}. Make it first.")


def candidates_from(
    frames: list[str], telemetry: str | None, camera: Path | None, card: "ModelCard"
) -> "tuple[list[Candidate], list[Candidate]]":
    """Patches of the flight, where there is telemetry, and of the pictures; raises InputError."""
    from skyfix.runtime.replay import recording_from_files
    from skyfix.runtime.sense.source import path_from_uri

    from .frames import flight_candidates, picture_candidates

    if telemetry is None and camera is not None:
        raise InputError("--camera is of use with --telemetry only: give both, or none")
    flight: list[Candidate] = []
    if telemetry is not None:
        flight = flight_candidates(recording_from_files(frames[0], telemetry, camera), card)
        frames = frames[1:]
    pictures = [
        candidate
        for uri in frames
        for candidate in picture_candidates(path_from_uri(uri), card)
    ]  # fmt: skip
    return flight, pictures


def queries_of(
    pack: "TilePack", card: "ModelCard", flight: "list[Candidate]", chosen: "Frames",
    telemetry: str | None,
) -> "PackQueries":  # fmt: skip
    """The flight's frames with their true places; without a flight the chosen frames."""
    import numpy as np

    from skyfix.runtime.encoder import normalised
    from skyfix.runtime.replay import EXIF
    from skyfix.runtime.sense.pictures import evenly
    from skyfix.runtime.truth import read_truth

    from .pack import PackQueries, true_positions

    if not flight:
        return PackQueries(pack, chosen.batch, np.full((len(chosen.batch), 2), np.nan))
    some = evenly(flight, MAX_QUERIES)
    batch = np.stack([normalised(found.patch, card.mean, card.std) for found in some])
    places = np.full((len(some), 2), np.nan)
    if telemetry is not None and telemetry != EXIF and has_truth(Path(telemetry)):
        truth = read_truth(Path(telemetry))
        places = true_positions(pack, some, truth["drone"], truth["center"])
    return PackQueries(pack, batch, places)


def has_truth(telemetry: Path) -> bool:
    """Whether a telemetry file also holds true positions; most flights have none."""
    with telemetry.open(encoding="utf-8-sig") as file:
        return "truth_lat_deg" in file.readline()


def session_from(graph: Path) -> Any:
    """An onnxruntime session of a graph file; raises MissingExtraError."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "export")
    import onnx

    from .observe import session_of

    return session_of(onnx.load(graph))


def picture_path(output: Path, file: str, graphs: int) -> Path:
    """Where a graph's picture goes: beside the table, with the graph's name where there are two."""
    return output.with_suffix(".png" if graphs == 1 else f".{Path(file).stem}.png")


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A bar on stderr where someone watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("frames", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show
