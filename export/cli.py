"""The verbs of this folder: map build, info, verify, and export. Faults are raised."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..runtime.engines.choose import DEFAULT_ENGINE
from ..runtime.errors import MissingExtraError
from ..runtime.options import DEFAULT_MODEL, EngineOption, ModelOption

if TYPE_CHECKING:
    from rich.table import Table

    from ..runtime.maps.manifest import Imagery, PackManifest
    from .packs import Progress
    from .rasters import MapFile

# the divisors are quantiles of the circular normal distribution, sqrt(-2 ln 0.1), sqrt(-2 ln 0.05)
ACCURACY_HELP = (
    "How well the image is placed: standard deviation per axis in metres, which is part of every "
    "fix's ellipse. From a data sheet: CE90 / 2.15, or CE95 / 2.45; 0 for a map that was drawn. "
    "Default: 2, a good orthophoto."
)


def map_build(
    raster: Annotated[
        Path, typer.Argument(help="GeoTIFF or COG in any CRS, folder of z/x/y.jpg|png, or MBTiles.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new pack.")],
    model: ModelOption = DEFAULT_MODEL,
    engine: EngineOption = DEFAULT_ENGINE,
    step: Annotated[
        float | None, typer.Option(help="Metres between tile centres; default a tenth of a tile.")
    ] = None,
    tile: Annotated[
        float | None, typer.Option(help="Ground width of a tile in metres; default the model's.")
    ] = None,
    source: Annotated[str, typer.Option(help="Where the imagery comes from.")] = "",
    licence: Annotated[str, typer.Option(help="Under which licence.")] = "",
    date: Annotated[str, typer.Option(help="When it was taken, as 2024-10-31.")] = "",
    accuracy: Annotated[float | None, typer.Option(help=ACCURACY_HELP)] = None,
) -> None:
    """Turn a map image into a tile pack. Interrupted and started again, it goes on where it was.

    Example: skyfix map build town.tif -o town.pack --source "city survey" --licence CC-BY-4.0
    """
    from ..runtime.encoder import load_model, model_folder
    from .packs import build_pack
    from .rasters import open_raster

    map_file = open_raster(raster)
    imagery = _imagery(map_file, source, licence, date, accuracy)
    loaded = load_model(model_folder(model), engine=engine)
    try:
        with _progress_bar() as progress:
            manifest = build_pack(
                map_file.reader, loaded, output,
                imagery=imagery, step_m=step, tile_m=tile, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise
    typer.echo(f"{output}: {manifest.grid.size} tiles, pack {manifest.pack_id}")


def map_info(
    pack: Annotated[Path, typer.Argument(help="Folder of a tile pack.")],
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON.")] = False,
) -> None:
    """Show what a tile pack holds, by its manifest.

    Example: skyfix map info town.pack
    """
    from ..runtime.maps.manifest import json_from_manifest
    from ..runtime.maps.pack import read_manifest

    manifest = read_manifest(pack)
    if as_json:
        typer.echo(json_from_manifest(manifest), nl=False)
        return
    from rich.console import Console

    Console().print(_info_table(manifest))


def map_verify(pack: Annotated[Path, typer.Argument(help="Folder of a tile pack.")]) -> None:
    """Check every byte of a tile pack; the exit code is not zero where one was altered.

    Example: skyfix map verify town.pack
    """
    from ..runtime.maps.pack import TilePack

    opened = TilePack.open(pack, model_id=None, verify=True)
    files = sum(len(record.files) for record in opened.manifest.shards)
    typer.echo(f"{pack}: {files} files as they were built, pack {opened.pack_id}")


def _imagery(
    map_file: "MapFile", source: str, licence: str, date: str, accuracy_m: float | None
) -> "Imagery":
    """Provenance of a map, with a warning for what is not known."""
    from ..runtime.maps.manifest import DEFAULT_ACCURACY_M, Imagery

    imagery = Imagery(
        source=source or map_file.attribution, licence=licence, date=date,
        crs=map_file.crs, fingerprint=map_file.fingerprint,
        accuracy_m=DEFAULT_ACCURACY_M if accuracy_m is None else accuracy_m,
    )  # fmt: skip
    missing = [name for name in ("source", "licence", "date") if not getattr(imagery, name)]
    if missing:
        options = " ".join(f"--{name}" for name in missing)
        typer.echo(
            f"warning: the pack will not say the imagery's {', '.join(missing)}; "
            f"state them with {options}",
            err=True,
        )
    if accuracy_m is None:
        typer.echo(
            f"warning: {DEFAULT_ACCURACY_M:g} m per axis are assumed for how well the imagery is "
            "placed, and go into every fix's ellipse; state its own with --accuracy",
            err=True,
        )
    return imagery


@contextmanager
def _progress_bar() -> "Iterator[Progress]":
    """A bar on stderr with rate and time left; what an earlier run did counts in neither."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Tiles a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f} tiles/s" if task.speed else "")

    with Progress(
        TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task("tiles", total=None, start=False)
        started = False

        def show(done: int, total: int) -> None:
            nonlocal started
            if not started:
                bar.reset(task, completed=done, total=total)
                started = True
            bar.update(task, completed=done)

        yield show


def _info_table(manifest: "PackManifest") -> "Table":
    """The manifest for people."""
    from rich.table import Table

    grid, view, imagery = manifest.grid, manifest.overview, manifest.imagery
    valid = sum(record.valid_tiles for record in manifest.shards)
    size = sum(file.bytes for record in manifest.shards for file in record.files.values())
    table = Table(show_header=False)
    for name, value in (
        ("pack", manifest.pack_id),
        ("model", f"{manifest.model_id} ({manifest.model_name}), {manifest.dimension} numbers"),
        ("centre", f"{manifest.origin_lat_deg:.6f}, {manifest.origin_lon_deg:.6f}"),
        ("map", f"{view.columns * view.gsd_m:.0f} x {view.rows * view.gsd_m:.0f} m"),
        ("tiles", f"{valid} of {grid.rows} x {grid.columns}, every {grid.step_m:.4g} m"),
        ("tile", f"{manifest.tile_m:.4g} m, {manifest.input_px} px of {manifest.gsd_m:.4g} m"),
        ("overview", f"{view.columns} x {view.rows} px of {view.gsd_m:.4g} m"),
        ("shards", f"{len(manifest.shards)}, {size / 1e6:.1f} MB"),
        ("source", imagery.source or "not stated"),
        ("licence", imagery.licence or "not stated"),
        ("date", imagery.date or "not stated"),
        ("accuracy", f"{imagery.accuracy_m:.4g} m per axis"),
        ("read from", imagery.crs),
        ("built", manifest.created_utc),
    ):
        table.add_row(name, value)
    return table


def export_checkpoint(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Folder of `skyfix train` or `skyfix checkpoint import`; or an fp32 model, by "
            "name or folder, to have it in fp16 or int8."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new model.")],
    gsd: Annotated[
        float | None,
        typer.Option(help="Metres a pixel of the training images, where the weights do not say."),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 layers in fp16.")] = "fp32",
    opset: Annotated[int, typer.Option(help="Of ONNX: 18 to 20.")] = 20,
    calibration: Annotated[
        Path | None, typer.Option(help="Table of `skyfix calibrate`, for int8.")
    ] = None,
    plugin: Annotated[
        bool, typer.Option(help="Linear attention in TensorRT by skyfix's own kernel.")
    ] = True,
) -> None:
    """Turn a checkpoint into a model folder, and prove that both give the same descriptors.

    Example:
        skyfix export runs/nano -o models/nano --precision fp16
        skyfix export nano -o models/nano-int8 --precision int8 --calibration table.json
    """
    from rich.console import Console

    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "export")
    # it warns of every absent extension
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with Console(stderr=True).status("writing the graphs and comparing them with torch"):
        from ..runtime.encoder import model_folder
        from ..runtime.engines.base import CARD_NAME, GraphCard, ModelCard
        from .convert import model_from_model
        from .onnx import Plan, Written, model_from_checkpoint

        plan = Plan(precision, opset, plugin, calibration)
        card: GraphCard
        graphs: dict[str, Written]
        source = Path(checkpoint) if Path(checkpoint).is_dir() else model_folder(checkpoint)
        if (source / CARD_NAME).is_file():
            card, graphs = model_from_model(source, output, plan, gsd)
        else:
            card, graphs = model_from_checkpoint(source, output, gsd, plan)
    print(f"{output}: model {card.model_id}, {card.architecture}, {card.dimension} numbers")
    if isinstance(card, ModelCard):
        print(f"from {card.input_px} px at {card.gsd_m:g} m/px")
    else:
        print("from pictures without a scale: it cannot fly, other programs can run its graphs")
    for file, graph in graphs.items():
        print(f"{file}: {precision}, {graph.nodes} nodes, {graph.parity.text(precision)}")
        if graph.engine_parity is not None:
            print(f"{file}, rounded as on a GPU: {graph.engine_parity.text(precision)}")
