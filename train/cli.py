"""`skyfix train`."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from skyfix.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from .config import RunConfig
    from .loop import Lesson

# reading maps and writing models is the export folder's, which registers the whole way there
ADAPTATION_GROUP = "skyfix.adaptation"
DEFAULT_MINUTES = 5.0  # about 150 steps of nano on two cores


def train_model(
    config: Annotated[
        Path | None, typer.Argument(help="YAML; train/configs/ has the shipped ones.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Root of the data set, or of the imagery folders, if CONFIG names any."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Run folder; goes on if it exists. Default: runs/<name in CONFIG>."
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Checkpoint whose weights the run begins with; with --adapt also a shipped model.",
        ),
    ] = None,
    trunk: Annotated[
        Path | None,
        typer.Option(help="Pretrained weights of the trunk(s), by timm's or torchvision's names."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Another batch than CONFIG's; the learning rate scales with it."),
    ] = None,
    faithful: Annotated[
        bool,
        typer.Option(help="GeoDTR+'s own schedule: one rate an epoch, 0 in the first."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all.")] = 0,
    adapt: Annotated[
        Path | None,
        typer.Option(
            metavar="RASTER", help="Map of the flight area: fine-tune the model --from on it."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"--adapt: wall clock to learn in; {DEFAULT_MINUTES:g}.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="--adapt: licence of the map, for the model's card.")
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(help="--adapt: accuracy of the map, for its pack, as `skyfix map build`."),
    ] = None,
) -> None:
    """Train a network: on map imagery, self-supervised, or on a published data set.

    The run folder gets checkpoints, and curve.csv with loss, recall and learning rate. Stopped
    and started again, a run goes on where it was. Under torchrun the batch is shared among the
    processes, and so are the negatives.

    With --adapt a trained model is fine-tuned on the map of a flight area instead. Its views over
    a part of the map that it does not learn from are counted before and after; the model folder
    -o and its pack, -o with .pack added, are written where more of them are found.

    Example:
        skyfix train train/configs/nano.yaml --data imagery/
        skyfix train train/configs/cvusa_geodtr_plus.yaml --data CVUSA/ --trunk convnext_tiny.pth
        torchrun --nproc-per-node 4 --no-python skyfix train CONFIG --data ROOT
        skyfix train --adapt town.tif --from nano -o area_model --licence CC-BY-4.0
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn, TimeRemainingColumn

    from .distributed import joined, local_device, world
    from .loop import Progress, train
    from .start import first_weights

    if threads:
        torch.set_num_threads(threads)
    if adapt is not None:
        if config or data or trunk or batch or faithful:
            raise InputError("--adapt takes its configuration from the model that --from names")
        _adapt(adapt, start, out, minutes, licence, accuracy, device)
        return
    if config is None:
        raise InputError("name a configuration, or a map with --adapt")
    if (minutes, licence, accuracy) != (None, None, None):
        raise InputError("--minutes, --licence and --accuracy go with --adapt")
    settings = _settings(config, batch, faithful)
    out = out or Path("runs") / settings.name
    chosen = local_device(device)
    with (
        joined(chosen),
        Bar(
            *Bar.get_default_columns()[:-1],
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  recall {task.fields[recall]:.2f}"),
            disable=world()[0] > 0,
        ) as bar,
    ):
        reading = bar.add_task("reading", total=None, loss=0.0, recall=0.0)
        lesson = _lesson(settings, data)
        weights = first_weights(settings, start, trunk)
        bar.remove_task(reading)
        task = bar.add_task(settings.name, total=lesson.steps, loss=0.0, recall=0.0)

        def report(progress: Progress) -> None:
            bar.update(task, completed=progress.step, loss=progress.loss, recall=progress.recall)

        train(settings, lesson, out, chosen, report, weights)
        first = world()[0] == 0
    if first:
        typer.echo(f"{out}: {lesson.steps} steps. Next: skyfix export {out} -o MODEL_DIR")


def _adapt(
    raster: Path,
    start: Path | None,
    out: Path | None,
    minutes: float | None,
    licence: str | None,
    accuracy: float | None,
    device: str,
) -> None:
    """Hand over to the folder that reads maps and writes models, which this one must not import."""
    if start is None or out is None:
        raise InputError("--adapt needs a model to begin with, --from nano, and a folder, -o")
    found = list(entry_points(group=ADAPTATION_GROUP))
    if not found:
        raise MissingExtraError("onnx", "export")
    adapt_to_map: Callable[..., None] = found[0].load()
    adapt_to_map(
        raster, str(start), out,
        minutes=DEFAULT_MINUTES if minutes is None else minutes,
        licence=licence or "", accuracy=accuracy, device=device,
    )  # fmt: skip


def _settings(path: Path, batch: int | None, faithful: bool) -> "RunConfig":
    """The configuration with what the call changes."""
    from .config import config_from_yaml
    from .optimiser import scaled_lr

    settings = config_from_yaml(path)
    if batch is not None:
        rate = scaled_lr(settings.optimiser, batch, settings.batch)
        settings = msgspec.structs.replace(settings, batch=batch, optimiser=rate)
    if faithful:
        schedule = msgspec.structs.replace(settings.schedule, per_epoch=True)
        settings = msgspec.structs.replace(settings, schedule=schedule)
    return settings


def _lesson(settings: "RunConfig", data: Path | None) -> "Lesson":
    """What the configuration learns from, read from disk."""
    import cv2

    from .config import ImageryRun
    from .data.sources import sampler_from_config
    from .self_supervised import ImageryLesson
    from .supervised import DatasetLesson

    # workers are forked, and OpenCV's thread pool does not survive a fork: never start it
    cv2.setNumThreads(0)
    if isinstance(settings, ImageryRun):
        return ImageryLesson(settings, sampler_from_config(settings.data, settings.view, data))
    if data is None:
        raise InputError(f"set --data to the root of {settings.data.name}")
    return DatasetLesson.from_disk(settings, data)
