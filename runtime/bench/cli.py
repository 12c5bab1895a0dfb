"""`skyfix bench`: the time of every stage on this machine, what it costs, and against which run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ..engines.choose import DEFAULT_ENGINE
from ..errors import InputError
from ..options import DEFAULT_MODEL, EngineOption, ModelOption

if TYPE_CHECKING:
    from .run import Parts
    from .workload import Flight

FRAMES, FEWEST_FRAMES = 240, 24
REDRAW_S = 0.25  # of the bar, between frames and not within them


def bench(
    model: ModelOption = DEFAULT_MODEL,
    engine: EngineOption = DEFAULT_ENGINE,
    pack: Annotated[
        Path | None,
        typer.Option(help="Tile pack to fly over; without one only ortho and encode are timed."),
    ] = None,
    frames: Annotated[
        int, typer.Option(help=f"Frames under the clock, at least {FEWEST_FRAMES}.")
    ] = FRAMES,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Store the run with every sample."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN.json", help="Show ratios to a stored run of the same work."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the distributions and the course of the run."),
    ] = None,
) -> None:
    r"""Measure every stage of a fix on this machine, after a warm-up until it is steady.

    The frames are made beforehand from the pack's own map, the fixes leave through a real socket.
    Memory, power, clocks and heat are recorded where the machine shows them; what it does not show
    is said, and so is what makes the numbers doubtful.

    Example:
        skyfix bench --pack city.pack --json before.json
        skyfix bench --pack city.pack --engine openvino --compare before.json --picture bench.png
    """
    from ..canvas import write_picture
    from ..files import write_json
    from .compare import compare as compared
    from .compare import refuse_other_work
    from .picture import draw_record
    from .record import check_writable, read_record
    from .report import print_report, summary_of
    from .run import is_whole, measure

    if frames < FEWEST_FRAMES:
        raise InputError(f"--frames {frames}: give at least {FEWEST_FRAMES}, percentiles need them")
    for path in (json_file, picture):
        if path is not None:
            check_writable(path)
    stored = read_record(compare) if compare else None
    parts = parts_from_names(model, engine, pack)
    flight = _flown(parts, frames)
    if stored:
        refuse_other_work(flight.workload, stored.workload)
    with _progress("measure", frames) as advance:
        record = measure(parts, flight, advance)
    record = msgspec.structs.replace(record, summary=summary_of(record))
    print_report(record, compared(record, stored) if stored else None, markdown=markdown)
    if not is_whole(record):
        print("interrupted: nothing was written", file=sys.stderr)
        raise KeyboardInterrupt
    if json_file:
        write_json(json_file, record)
    if picture:
        write_picture(picture, draw_record(record))


def parts_from_names(model: str, engine: str, pack: Path | None) -> "Parts":
    """Load model and pack; the GPU is asked for its memory before anything is on it."""
    from ..encoder import load_model, model_folder
    from ..engines.base import load_card
    from ..engines.choose import choose
    from ..engines.onnx import available_cores
    from ..maps.pack import TilePack
    from .run import Gpu, Parts

    folder = model_folder(model)
    card = load_card(folder)
    graphs = [folder / file for file in sorted(set(card.graphs.values()))]
    gpu = Gpu.of(choose(engine, graphs, card.precision).name)
    opened = TilePack.open(pack, model_id=card.model_id) if pack else None
    return Parts(load_model(folder, engine=engine), opened, available_cores(), gpu)


def _flown(parts: "Parts", frames: int) -> "Flight":
    from .workload import VIDEO, flight_over

    with _progress("make frames", VIDEO.lap_frames) as advance:
        return flight_over(parts.pack, parts.model.card, frames, VIDEO, advance)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr where someone watches; it has no thread of its own that could disturb."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console,
        transient=True, auto_refresh=False, disable=not console.is_terminal,
    )  # fmt: skip
    done = shown_s = 0.0
    with bar:
        task = bar.add_task(what, total=total)

        def advance() -> None:
            nonlocal done, shown_s
            done += 1
            now_s = time.monotonic()
            if now_s - shown_s > REDRAW_S:
                shown_s = now_s
                bar.update(task, completed=done, refresh=True)

        yield advance
