"""`skyfix replay`: recorded frames and telemetry in, one fix a frame out.

    source -> localizer -> fixes.jsonl (and the bus)

The file is written beside its final name and renamed at the end, also on Ctrl-C.
"""

import errno
import math
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .encoder import load_model, model_folder
from .engines.choose import DEFAULT_ENGINE, Choice
from .errors import CameraError, InputError
from .localizer import Localizer, LocalizerSettings, Prior
from .maps.pack import TilePack
from .options import DEFAULT_MODEL, EngineOption, ModelOption
from .publish.bus import Publisher
from .publish.messages import FixMessage, encode, message_from_fix
from .sense.camera import Camera, camera_from_yaml
from .sense.exif import read_exif
from .sense.source import open_source, path_from_uri
from .sense.telemetry import TelemetryRow, read_telemetry
from .types import Fix, Frame, LostFrame, Telemetry

EXIF = "exif"  # instead of a telemetry file

Step = Callable[[Frame | LostFrame, Telemetry | None], Fix]


@dataclass(frozen=True)
class Recording:
    """Everything that a flight left behind."""

    frames: str  # folder or video
    rows: tuple[TelemetryRow, ...]
    camera: Camera


class Summary(msgspec.Struct, frozen=True):
    """A replay in one line."""

    frames: int
    positions: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    median_latency_ms: float | None
    p95_latency_ms: float | None
    out: str
    engine: Choice | None = None


@dataclass
class Tally:
    """What has come out so far."""

    positions: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)  # of frames with a position
    engine: Choice | None = None  # what ran the model

    def add(self, message: FixMessage) -> None:
        """Count one fix."""
        self.statuses[message.status.value] += 1
        if message.reason is not None:
            self.reasons[message.reason.value] += 1
        if message.lat_deg is not None:
            self.positions += 1
            self.latencies_ms.append(message.latency_ms or 0.0)

    def summary(self, out: Path) -> Summary:
        """The counts and the latency of frames with a position."""
        median_ms, p95_ms = (
            (float(value) for value in np.percentile(self.latencies_ms, (50, 95)))
            if self.latencies_ms
            else (None, None)
        )
        return Summary(
            sum(self.statuses.values()), self.positions, dict(self.statuses),
            dict(self.reasons), median_ms, p95_ms, str(out), self.engine,
        )  # fmt: skip


def replay(
    pack: Annotated[Path, typer.Option(help="Tile pack of the area.")],
    frames: Annotated[str, typer.Option(help="Folder of images, or a video file.")],
    telemetry: Annotated[
        str, typer.Option(help="flight.csv, or 'exif' to read the photos' EXIF and XMP (DJI).")
    ],
    out: Annotated[Path, typer.Option(help="File for the fixes, one line of JSON a frame.")],
    camera: Annotated[
        Path | None, typer.Option(help="camera.yaml; with --telemetry exif it may be left out.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    engine: EngineOption = DEFAULT_ENGINE,
    prior: Annotated[
        str | None,
        typer.Option(metavar="LAT,LON,RADIUS_M", help="Where the flight starts; used once."),
    ] = None,
    independent: Annotated[
        bool,
        typer.Option("--independent", help="Localise every frame alone, over the whole pack."),
    ] = False,
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Descriptors only, no correlation with the map.")
    ] = False,
    publish: Annotated[
        str | None,
        typer.Option(metavar="ENDPOINT", help="Publish too, e.g. on tcp://127.0.0.1:5556."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    r"""Turn recorded frames into position fixes; the true position is never an input.

    Example:
        skyfix replay --pack city.pack --frames frames --telemetry flight.csv \
            --camera camera.yaml --out fixes.jsonl
    """
    if independent and prior:
        raise InputError(
            "--independent searches the whole pack for every frame alone, so --prior has no use: "
            "leave one of them out"
        )
    recording = recording_from_files(frames, telemetry, camera)
    settings = LocalizerSettings(
        prior=prior_from_text(prior) if prior else None,
        independent=independent,
        refine=not no_refine,
    )
    loaded = load_model(model_folder(model), engine=engine)
    opened = TilePack.open(pack, model_id=loaded.card.model_id)
    localizer = Localizer(opened, loaded, recording.camera, settings)
    tally = Tally(engine=loaded.choice)
    try:
        with Publisher(publish) if publish else nullcontext() as publisher:
            record_fixes(localizer.step, recording, out, tally, publisher)
    except KeyboardInterrupt:
        _report(tally.summary(out), json_output=json_output)
        raise
    _report(tally.summary(out), json_output=json_output)


def record_fixes(
    step: Step, recording: Recording, out: Path, tally: Tally, publisher: Publisher | None = None
) -> None:
    """Walk through a recording and write, count and publish a fix for every row."""
    session = publisher.session if publisher else uuid.uuid4().hex
    with (
        open_source(recording.frames, recording.rows) as frames,
        fixes_file(out) as file,
        _progress() as progress,
    ):
        pairs = zip(frames, recording.rows, strict=True)
        for frame, row in progress.track(pairs, total=len(recording.rows), description="replay"):
            message = message_from_fix(step(frame, row.telemetry), session, utc_ns=None)
            write_line(file, encode(message, "json"))
            tally.add(message)
            if publisher:
                publisher.publish(message)


def recording_from_files(frames: str, telemetry: str, camera: Path | None) -> Recording:
    """Read telemetry and camera; raises InputError for what is missing or wrong."""
    from_file = camera_from_yaml(camera) if camera else None
    if telemetry == EXIF:
        flight = read_exif(path_from_uri(frames))
        found = from_file or flight.camera
        if found is None:
            raise CameraError("no photo states its focal length: give --camera camera.yaml")
        return Recording(frames, flight.rows, found)
    if from_file is None:
        raise CameraError("--camera is needed: only --telemetry exif can do without")
    return Recording(frames, read_telemetry(Path(telemetry)), from_file)


def prior_from_text(text: str) -> Prior:
    """LAT,LON,RADIUS_M; raises InputError."""
    try:
        lat_deg, lon_deg, radius_m = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--prior {text}: give three numbers, LAT,LON,RADIUS_M") from error
    if not (abs(lat_deg) <= 90 and abs(lon_deg) <= 180 and 0 < radius_m < math.inf):
        raise InputError(
            f"--prior {text}: latitude within +-90 and longitude within +-180 degrees, "
            "radius above 0 metres"
        )
    return Prior(lat_deg, lon_deg, radius_m)


@contextmanager
def fixes_file(out: Path) -> Iterator[FileIO]:
    """A file that gets its name when all is written, or as far as it came when interrupted."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder. Name a file in it.")
    part = out.with_name(out.name + ".part")
    try:
        file = FileIO(part, "wb")  # unbuffered: a line is on disk when it is written
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from error
    try:
        with file:
            yield file
    except KeyboardInterrupt:
        _rename(part, out)
        print(f"interrupted: what was localised so far is in {out}", file=sys.stderr)
        raise
    _rename(part, out)


def write_line(file: FileIO, line: bytes) -> None:
    """Append a line; raises InputError when the disk is full."""
    try:
        if file.write(line + b"\n") != len(line) + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301  as a full disk does
    except OSError as error:
        raise InputError(
            f"{file.name!s}: cannot be written ({error.strerror}). Its lines so far are kept."
        ) from error


def sentence(summary: Summary) -> str:
    """The summary for people."""
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(summary.statuses.items()))
    reasons = ", ".join(f"{count} {name}" for name, count in sorted(summary.reasons.items()))
    median = "-" if summary.median_latency_ms is None else f"{summary.median_latency_ms:.1f} ms"
    engine = f"; engine {summary.engine.name} ({summary.engine.why})" if summary.engine else ""
    return (
        f"{summary.frames} frames: {summary.positions} positions ({statuses})"
        f"{f'; {reasons}' if reasons else ''}; median latency {median}; {summary.out}{engine}"
    )


def _rename(part: Path, out: Path) -> None:
    try:
        part.replace(out)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be replaced ({error.strerror}). The fixes are in {part}."
        ) from error


def _report(summary: Summary, *, json_output: bool) -> None:
    print(msgspec.json.encode(summary).decode() if json_output else sentence(summary))


def _progress() -> Progress:
    """A bar on stderr where someone watches."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
