"""`skyfix train --adapt`, from the map to the pack: its bars, its lines, and what it refuses."""

import logging
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from time import monotonic

import typer

from ..runtime.errors import InputError, MissingExtraError


def adapt_to_map(
    raster: Path, start: str, output: Path, *,
    minutes: float, licence: str, accuracy: float | None, device: str,
) -> None:  # fmt: skip
    """Fine-tune a model on a map, write it to `output`, and the map's pack beside it."""
    for package in ("torch", "onnx", "onnxscript", "onnxruntime", "rasterio"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "export")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from skyfix.train.adapt import Progress as Learned
    from skyfix.train.adapt_start import start_from
    from skyfix.train.distributed import local_device

    from .adapt import model_from_map
    from .plan import check_accuracy
    from .rasters import open_raster

    # torch's exporter warns of every absent extension
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    pack = output.with_name(f"{output.name}.pack")
    for path in (output, pack):
        if path.exists():
            raise InputError(f"{path} exists; name a new folder or remove it")
    if accuracy is not None:
        check_accuracy(accuracy)  # now, not after minutes of learning
    map_file = open_raster(raster)
    if not licence:
        typer.echo(
            "warning: model and pack will not say the imagery's licence; state it with --licence",
            err=True,
        )
    with Progress(
        TextColumn("adapting"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[at]}"),
        console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task("adapting", total=1.0, at="scoring")

        def show(learned: Learned) -> None:
            at = f"step {learned.steps}  loss {learned.loss:.3f}  held out {learned.score:.1%}"
            bar.update(task, completed=learned.share, at=at)

        adapted = model_from_map(
            map_file, raster.name, start_from(start), output,
            licence=licence, minutes=minutes, device=local_device(device),
            clock=monotonic, report=show,
        )  # fmt: skip
    found = adapted.adaptation
    typer.echo(
        f"held-out part of {raster.name}: R@1 {found.before:.1%} before, {found.after:.1%} after "
        f"{found.steps} steps in {found.seconds / 60:.1f} minutes"
    )
    typer.echo(
        f"{output}: model {adapted.card.model_id}, within {adapted.parity:.1e} of torch's "
        "descriptors"
    )
    _build_pack(raster, output, pack, licence, accuracy)


def _build_pack(
    raster: Path, model: Path, pack: Path, licence: str, accuracy: float | None
) -> None:
    from .cli import map_build

    try:
        map_build(raster, pack, str(model), licence=licence, accuracy=accuracy)
    except KeyboardInterrupt:
        stated = f" --licence {quote(licence)}" if licence else ""
        stated += "" if accuracy is None else f" --accuracy {accuracy}"
        typer.echo(
            "the model is whole; its pack: "
            f"skyfix map build {raster} -o {pack} --model {model}{stated}"
        )
        raise
