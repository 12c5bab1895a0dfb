"""`skyfix checkpoint import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skyfix.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from .models.config import InputSizes


def import_official(
    file: Annotated[Path, typer.Argument(help="Published weights: .pth, .pt or .safetensors.")],
    system: Annotated[
        str,
        typer.Option(
            "--from",
            help="geodtr, geodtr_plus, mfrgn, mfrgn_drone, university1652 or sample4geo.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE that shapes do not tell: stride=1, share=true, heads=4."
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--input", help="VIEW=HxW for every view. Default: the published sizes."),
    ] = None,
) -> None:
    """Turn published weights into a checkpoint that skyfix evaluates, trains on and exports.

    The network is read off the shapes of its weights; a file of another system or input size is
    refused by naming the keys and shapes that differ. Files that would run code are refused.

    Example:
        skyfix checkpoint import model_best.pth --from geodtr_plus -o geodtr.ckpt
        skyfix checkpoint import net_119.pth --from university1652 --set stride=1 -o three.ckpt
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    import msgspec

    from .models.build import build_network
    from .official import import_checkpoint

    if (output / "checkpoint.json").exists():
        raise InputError(f"{output} holds a checkpoint; name a new folder or remove it")
    pairs = dict(_pair(text, "--set stride=1") for text in settings or [])
    record = import_checkpoint(file, system, output, pairs, sizes_from_words(sizes or []))
    with torch.device("meta"):
        network = build_network(record.network, record.input_px)
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    inputs = ", ".join(f"{view} {h}x{w}" for view, (h, w) in record.input_px.items())
    typer.echo(f"{output}: {system}, {parameters:.2f} M parameters, {inputs} px")
    typer.echo(msgspec.json.encode(record.network).decode())
    typer.echo(f"Next: skyfix evaluate {output} --dataset NAME --root DIR")
    typer.echo(f"      skyfix export {output} -o MODEL_DIR")


def sizes_from_words(words: list[str]) -> "InputSizes | None":
    """["ground=122x671", ...] as sizes, None where there are none; raises InputError."""
    sizes: InputSizes = {}
    for word in words:
        view, size = _pair(word, "--input ground=122x671")
        height, _, width = size.partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise InputError(f"{word!r} is no size: write it as --input ground=122x671")
        sizes[view] = (int(height), int(width))
    return sizes or None


def _pair(word: str, example: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not (key and equals and value):
        raise InputError(f"{word!r} is no KEY=VALUE: write it as {example}")
    return key, value
