"""The verbs for the device: build engines there, and check all engines against each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skyfix.runtime.errors import EngineError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from skyfix.runtime.engines.built import VerifyRecord

    from .layers import LayerDifference

WORST_LAYERS = 8
LAYER_PICTURES = 8  # enough to see where layers part


def export_engine(
    model: Annotated[str, typer.Argument(help="Model folder, or name of a shipped model.")],
    batch: Annotated[
        str,
        typer.Option(metavar="SMALLEST,BEST,LARGEST", help="Batches it takes, and is tuned for."),
    ] = "1,1,32",
    workspace: Annotated[int, typer.Option(help="MiB that the builder may try kernels in.")] = 1024,
    level: Annotated[
        int, typer.Option(help="Effort of the builder, 0 to 5: 5 builds longest.")
    ] = 3,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build even where nothing has changed.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Build a model's TensorRT engines, on the device that will run them.

    They are built again only when TensorRT, the GPU, a graph or an option has changed.

    Example: skyfix export engine models/nano-fp16
    """
    import msgspec
    from rich.console import Console

    from skyfix.runtime.encoder import model_folder
    from skyfix.runtime.engines.built import BuildOptions

    from .engine import engines_from_model

    console = Console(stderr=True)
    options = BuildOptions(*batches_from_text(batch), workspace, level)
    with console.status("TensorRT tries its kernels"):
        records = engines_from_model(
            model_folder(model), options, rebuild=rebuild, say=console.print
        )
    if json_output:
        print(msgspec.json.encode(records).decode())
    else:
        print(f"check it before it flies: skyfix export verify {model}")


def export_verify(
    model: Annotated[str, typer.Argument(help="Model folder, or name of a shipped model.")],
    frames: Annotated[
        Path | None, typer.Option(help="Folder of real frames or map tiles; else drawn land.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="What the model was exported from: torch is compared too.")
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Tile pack of this model: do all find the same best tile?")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Compare this engine, again for more; else all.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Model to compare layer by layer, by name or folder: the fp32 one."),
    ] = None,
    gate: Annotated[
        float | None, typer.Option(help="Smallest cosine that passes; else by precision.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pictures at most.")] = 64,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Compare a model's engines on the same pictures; not zero where one is below the gate.

    What is found is kept in the model folder, unless the model is a shipped one: the runtime
    refuses a TensorRT engine that failed.

    Example: skyfix export verify models/nano-fp16 --frames flight/frames
    """
    import msgspec
    from rich.console import Console

    from skyfix.runtime.encoder import model_folder
    from skyfix.runtime.engines.base import load_card
    from skyfix.runtime.engines.built import VERIFY_NAME
    from skyfix.runtime.engines.choose import installed_engines
    from skyfix.runtime.maps.pack import TilePack

    from .samples import patches_from_drawing, patches_from_folder
    from .verify import inputs_of, keep, verify_model

    folder = model_folder(model)
    card = load_card(folder)
    if frames is None:
        typer.echo("warning: no --frames: compared on drawn land, not on what will be seen",
                   err=True)  # fmt: skip
        patches = patches_from_drawing(card, limit)
    else:
        patches = patches_from_folder(frames, card, limit)
    opened = None if pack is None else TilePack.open(pack, model_id=card.model_id)
    graphs = [folder / file for file in sorted(set(card.graphs.values()))]
    with Console(stderr=True).status("running every engine"):
        record = verify_model(
            folder, card, patches, engine or installed_engines(graphs),
            checkpoint=checkpoint, pack=opened, gate=gate,
        )  # fmt: skip
    layers = [] if against is None else layers_against(against, folder, inputs_of(patches, card))
    if json_output:
        print(msgspec.json.encode({"verify": record, "layers": layers}).decode())
    else:
        Console().print(table_from_record(record))
        if layers:
            worst = sorted(layers, key=lambda layer: layer.cosine)[:WORST_LAYERS]
            Console().print(f"the layers that part most from {against}:")
            Console().print(table_from_layers(worst))
    kept = keep(folder, record)
    failed = [finding for finding in record.findings if not finding.passed]
    if failed:
        raise EngineError(
            f"below the gate: {', '.join(f'{found.engine} on {found.graph}' for found in failed)}. "
            "Do not fly with it" + (f"; {folder / VERIFY_NAME} keeps the record." if kept else ".")
        )


def batches_from_text(text: str) -> tuple[int, int, int]:
    """SMALLEST,BEST,LARGEST; raises InputError."""
    try:
        smallest, best, largest = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--batch {text}: give three whole numbers, SMALLEST,BEST,LARGEST"
        ) from error
    return smallest, best, largest


def layers_against(
    other: Path, folder: Path, batch: "NDArray[np.float32]"
) -> "list[LayerDifference]":
    """The query branches of two models, layer by layer; the other one is the reference."""
    from skyfix.runtime.encoder import model_folder
    from skyfix.runtime.engines.base import load_card

    from .layers import layer_differences

    graphs = [path / load_card(path).graphs["query"] for path in (model_folder(str(other)), folder)]
    return layer_differences(graphs[0], graphs[1], batch[:LAYER_PICTURES])


def table_from_record(record: "VerifyRecord") -> "Table":
    """The findings for people."""
    from rich.table import Table

    first = record.findings[0]
    table = Table(
        title=f"{first.patches} pictures, cosine to {first.reference}", title_justify="left",
        box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("graph", "engine", "smallest", "mean", "gate", "same best tile", ""):
        table.add_column(name, no_wrap=True)
    for found in record.findings:
        agreement = "-" if found.top1_agreement is None else f"{found.top1_agreement:.1%}"
        table.add_row(
            found.graph, found.engine, f"{found.min_cosine:.5f}", f"{found.mean_cosine:.5f}",
            f"{found.gate:g}", agreement, "passed" if found.passed else "FAILED",
        )  # fmt: skip
    return table


def table_from_layers(layers: "list[LayerDifference]") -> "Table":
    """Layers for people."""
    from rich.table import Table

    table = Table("layer", "operator", "cosine", "relative error", box=None, pad_edge=False)
    for layer in layers:
        table.add_row(
            layer.name, layer.operator, f"{layer.cosine:.6f}", f"{layer.relative_error:.1e}"
        )
    return table
