"""`skyfix map coverage`: where a flight will be localisable, before it takes off."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..options import DEFAULT_MODEL, ModelOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .report import CoverageReport
    from .rivals import Progress

EXIT_TOO_LITTLE = 4  # --require is not met; 2, 3 and 130 are taken (runtime/cli.py)


def coverage(
    pack: Annotated[Path, typer.Argument(help="Folder of a tile pack.")],
    route: Annotated[
        Path | None,
        typer.Option(help="CSV with lat_deg, lon_deg, or a GeoJSON LineString; default all of it."),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    speed: Annotated[float, typer.Option(help="Metres a second over ground.")] = 10.0,
    interval: Annotated[float, typer.Option(help="Seconds between frames.")] = 1.0,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write all numbers here; - for the terminal.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a picture here, a PNG.")] = None,
    require: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Percent; end with code 4 where less is localisable."),
    ] = None,
) -> None:
    """Say where a flight will be localisable, and how long a lost drone would search.

    Each place is compared with all of the map, as a camera would see it on another day. Exit
    codes: 0 done, 4 less than --require is localisable, 2 and 3 as everywhere.

    Examples:
        skyfix map coverage town.pack --route route.geojson --picture coverage.png

        skyfix map coverage town.pack --route route.csv --json report.json --require 80
    """
    from rich.console import Console

    from ..canvas import write_picture
    from ..encoder import model_folder
    from ..engines.base import load_card
    from ..maps.pack import TilePack
    from .check import Flying
    from .mission import mission_from_route
    from .report import table_from_report, worst_table

    if not (0 < speed < 1000 and 0 < interval < 3600):
        raise InputError("--speed and --interval are above 0, below 1000 m/s and 3600 s")
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"{picture}: the picture is a PNG, its name ends in .png")
    for target in (picture, Path(json_file) if json_file else None):
        if target is not None and not target.parent.is_dir():  # said before the work
            raise InputError(f"{target}: there is no folder {target.parent}")
    card = load_card(model_folder(model))
    opened = TilePack.open(pack, model_id=card.model_id)
    with _progress_bar() as progress:
        mission = mission_from_route(
            opened, route, Flying(speed, interval), card.likelihood, picture is not None, progress
        )
    report = mission.report
    if json_file is not None:
        _write_json(report, json_file)
    if json_file != "-":
        Console().print(table_from_report(report))
        if report.worst:
            Console().print(worst_table(report))
    if picture is not None:
        from .picture import draw_mission

        write_picture(picture, draw_mission(opened, mission))
    if require is not None and report.localisable_percent < require:
        typer.echo(
            f"only {report.localisable_percent:.0f} % is localisable, {require:g} % is required",
            err=True,
        )
        raise typer.Exit(EXIT_TOO_LITTLE)


def _write_json(report: "CoverageReport", target: str) -> None:
    """To the terminal, or into a file."""
    from ..files import json_from_record, write_json

    if target == "-":
        sys.stdout.write(json_from_record(report).decode())
    else:
        write_json(Path(target), report)


@contextmanager
def _progress_bar() -> "Iterator[Progress]":
    """A bar on stderr that leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("comparing places"), BarColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
