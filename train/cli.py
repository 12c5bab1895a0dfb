"""`skyfix train`."""

from pathlib import Path
from typing import Annotated

import typer

from skyfix.runtime.errors import InputError, MissingExtraError


def train_model(
    config: Annotated[Path, typer.Argument(help="YAML; train/configs/ has the shipped ones.")],
    data: Annotated[
        Path | None, typer.Option(help="Root of the imagery folders, if CONFIG names any.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Run folder; goes on if it exists. Default: runs/<name in CONFIG>."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all.")] = 0,
) -> None:
    """Train a network on map imagery, self-supervised.

    The run folder gets checkpoints, and curve.csv with loss, recall and learning rate. Stopped
    and started again, a run goes on where it was.

    Example:
        skyfix train train/configs/nano.yaml --data imagery/
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    import cv2
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn, TimeRemainingColumn

    from .config import config_from_yaml
    from .data.sources import sampler_from_config
    from .loop import Progress, train

    # workers are forked, and OpenCV's thread pool does not survive a fork: never start it
    cv2.setNumThreads(0)
    settings = config_from_yaml(config)
    out = out or Path("runs") / settings.name
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is visible; name --device cpu to train without one")
    if threads:
        torch.set_num_threads(threads)
    with Bar(
        *Bar.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  recall {task.fields[recall]:.2f}"),
    ) as bar:
        reading = bar.add_task("reading imagery", total=None, loss=0.0, recall=0.0)
        sampler = sampler_from_config(settings.data, settings.view, data)
        bar.remove_task(reading)
        task = bar.add_task(settings.name, total=settings.steps, loss=0.0, recall=0.0)

        def report(progress: Progress) -> None:
            bar.update(task, completed=progress.step, loss=progress.loss, recall=progress.recall)

        train(settings, sampler, out, torch.device(device), report)
    typer.echo(f"{out}: {settings.steps} steps. Next: skyfix export {out} -o MODEL_DIR")
