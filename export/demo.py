"""`skyfix demo`: the whole job in a minute, without any file from outside.

    drawn map -> tile pack -> simulated flight -> fixes -> bus -> `skyfix listen` in a process
                                                     |
                                                     `-> fixes.jsonl, table, track.png

The camera sees the drawn land in another season, light and sensor than the map shows it, tilts
without the telemetry knowing, and starts lost: the localizer is told nothing of its position.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..runtime.canvas import write_picture
from ..runtime.encoder import Model, load_model, model_folder
from ..runtime.errors import InputError, PublishError
from ..runtime.geo import LocalFrame
from ..runtime.localizer import Localizer
from ..runtime.maps.manifest import MANIFEST_NAME, Imagery
from ..runtime.maps.pack import TilePack
from ..runtime.maps.raster import Raster
from ..runtime.options import DEFAULT_MODEL, ModelOption
from ..runtime.publish.bus import Publisher
from ..runtime.publish.messages import FixMessage, decode_fix, encode, message_from_fix
from ..runtime.replay import Tally, fixes_file, write_line
from ..runtime.score import Score, score_flight
from ..runtime.sense.camera import Camera
from ..runtime.sense.procedural import town_and_country
from ..runtime.sense.simulator import Conditions, Simulator, route_from_waypoints
from ..runtime.truth import Array, Point, Truth
from ..runtime.types import Status
from .demo_picture import Track, draw_track
from .demo_report import FIXES, PICTURE, Summary, fault_of, print_report
from .packs import build_pack

ORIGIN = LocalFrame(47.0, 8.0)  # where the drawn land is said to lie
ENDPOINT = "tcp://127.0.0.1:*"  # any free port
CONNECT_S = 30.0  # for the listening process to start on a busy machine
FAREWELL_S = 5.0  # for the last fixes to reach it
LISTEN = "from skyfix.runtime.cli import main; main()"
PACK, RECEIVED = "map.pack", "received.jsonl"

Advance = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True)
class Scene:
    """The land, the camera and the way over it."""

    size_m: tuple[float, float] = (1600.0, 1200.0)  # east-west, north-south
    gsd_m: float = 0.5
    step_m: float = 20.0  # between tiles: a third fewer than by default, to stay in a minute
    waypoints_en_m: tuple[tuple[float, float], ...] = (
        (-70, 20), (60, 135), (225, 145), (270, 15), (145, -85), (-20, -100), (-70, 20),
    )  # fmt: skip
    height_m: float = 120.0
    speed_mps: float = 12.0
    interval_s: float = 1.0
    camera: Camera = field(
        default_factory=lambda: Camera(
            1280, 720, np.array([[760.0, 0, 639.5], [0, 760.0, 359.5], [0, 0, 1]]), np.zeros(0)
        )
    )
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True)
class Flight:
    """Everything that came out of a flight, and where it really was."""

    messages: list[FixMessage]
    truth: dict[Point, Truth]
    tally: Tally
    received: int


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; made, or written anew.")
    ] = Path("demo"),
    model: ModelOption = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(min=0, help="Another number draws another land.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw a land, map it, fly over it lost, and listen to the fixes in another process.

    Example:
        skyfix demo --seed 7
    """
    loaded = load_model(model_folder(model))
    with _progress() as progress:
        summary = run_demo(Scene(), loaded, out, seed, progress)
    if json_output:
        print(msgspec.json.encode(summary).decode())
    else:
        print_report(summary)
    fault = fault_of(summary)
    if fault is not None:
        print(f"the demo failed: {fault}", file=sys.stderr)
        raise typer.Exit(1)


def run_demo(scene: Scene, model: Model, out: Path, seed: int, progress: Progress) -> Summary:
    """All of it; `out` then holds map.pack, fixes.jsonl, received.jsonl and track.png."""
    started_s = time.perf_counter()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (FIXES, RECEIVED, PICTURE):  # of an earlier run that this one may not finish
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be a folder ({error.strerror})") from error
    drawing = progress.add_task("draw the land", total=None)
    land = town_and_country(seed, *scene.size_m, scene.gsd_m, ORIGIN)
    progress.update(drawing, total=1, completed=1)
    mapping = _advance(progress, "map the land")
    pack, tiles_per_s = _mapped(scene, land, model, out / PACK, seed, mapping)
    localizer = Localizer(pack, model, scene.camera)  # no prior: the flight starts lost
    simulator = Simulator(land, scene.camera, scene.conditions, seed)
    flight = _fly(scene, simulator, localizer, out, _advance(progress, "fly"))
    scores = score_flight(flight.messages, flight.truth)
    told = flight.tally.summary(out / FIXES)
    title = _title(told.frames, told.positions, scores.drone.all_frames)
    write_picture(out / PICTURE, draw_track(land, track_of(flight), title))
    return Summary(
        frames=told.frames,
        fixes=told.positions,
        received=flight.received,
        statuses=told.statuses,
        drone=scores.drone.all_frames,
        center=scores.center.all_frames,
        median_latency_ms=told.median_latency_ms,
        p95_latency_ms=told.p95_latency_ms,
        tiles=pack.grid.size,
        tiles_per_s=tiles_per_s,
        total_s=time.perf_counter() - started_s,
        out=str(out),
    )


def track_of(flight: Flight) -> Track:
    """The drone's true and published positions for the picture."""
    truth, nothing = flight.truth["drone"], float("nan")
    lat_lon = np.array(
        [(fix.lat_deg or nothing, fix.lon_deg or nothing) for fix in flight.messages], float
    )
    covariances = [fix.cov_en_m2 or np.full((2, 2), nothing) for fix in flight.messages]
    return Track(
        true_en_m=np.stack(ORIGIN.en_from_wgs84(truth.lat_deg, truth.lon_deg), axis=1),
        fix_en_m=np.stack(ORIGIN.en_from_wgs84(lat_lon[:, 0], lat_lon[:, 1]), axis=1),
        cov_en_m2=np.array(covariances, float),
        tracking=np.array([fix.status is Status.TRACKING for fix in flight.messages]),
    )


@contextmanager
def listening(endpoint: str, count: int, received: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`skyfix listen` in a process of its own that writes into a file and ends with the block."""
    call = [sys.executable, "-c", LISTEN, "listen", endpoint, "--json", "--count", str(count)]
    with (
        received.open("wb") as file,
        subprocess.Popen(call, stdout=file, stderr=subprocess.DEVNULL) as listener,
    ):
        try:
            yield listener
        finally:
            listener.terminate()


def _mapped(
    scene: Scene, land: Raster, model: Model, folder: Path, seed: int, advance: Advance
) -> tuple[TilePack, float]:
    """The land's tile pack, built anew or from where it was interrupted, and tiles a second."""
    if (folder / MANIFEST_NAME).is_file():
        shutil.rmtree(folder)
    rows, columns = land.valid.shape
    imagery = Imagery(
        source="skyfix demo", licence="Apache-2.0", crs="drawn",
        fingerprint=f"town_and_country {seed}, {columns} x {rows} px of {land.gsd_m} m",
        accuracy_m=0.0,  # the camera flies over the very drawing
    )  # fmt: skip
    counts: list[int] = []  # the first is what an interrupted run has left

    def count(done: int, total: int) -> None:
        counts.append(done)
        advance(done, total)

    started_s = time.perf_counter()
    build_pack(land, model, folder, imagery=imagery, step_m=scene.step_m, progress=count)
    rate = (counts[-1] - counts[0]) / (time.perf_counter() - started_s)
    return TilePack.open(folder, model_id=model.card.model_id), rate


def _fly(
    scene: Scene, simulator: Simulator, localizer: Localizer, out: Path, advance: Advance
) -> Flight:
    """Localise and publish every frame, and count what the other process has received."""
    route = route_from_waypoints(
        np.array(scene.waypoints_en_m, float), scene.height_m, scene.speed_mps, scene.interval_s
    )
    messages: list[FixMessage] = []
    points: list[tuple[float, float, float, float]] = []
    tally = Tally()
    with (
        fixes_file(out / FIXES) as file,
        Publisher(ENDPOINT) as publisher,
        listening(publisher.endpoint, len(route), out / RECEIVED) as listener,
    ):
        if not publisher.serve(CONNECT_S):
            raise PublishError(
                f"the listening process did not connect to {publisher.endpoint} within "
                f"{CONNECT_S:.0f} s. Try `skyfix listen` by hand to see why."
            )
        for sight in simulator.fly(route):
            fix = localizer.step(sight.frame, sight.telemetry)
            message = message_from_fix(fix, publisher.session, utc_ns=None)
            write_line(file, encode(message, "json"))
            publisher.publish(message)
            messages.append(message)
            tally.add(message)
            points.append((sight.pose.east_m, sight.pose.north_m, *sight.center_en_m))
            advance(len(messages), len(route))
        with suppress(subprocess.TimeoutExpired):
            listener.wait(FAREWELL_S)
    return Flight(messages, _truth(messages, np.array(points)), tally, _received(out / RECEIVED))


def _truth(messages: list[FixMessage], points_en_m: Array) -> dict[Point, Truth]:
    """True positions of drone and image centre, (n, 4) east and north of each."""
    frames = tuple(message.frame for message in messages)
    exact = np.zeros(len(frames))
    return {
        "drone": Truth(frames, *ORIGIN.wgs84_from_en(*points_en_m[:, :2].T), exact),
        "center": Truth(frames, *ORIGIN.wgs84_from_en(*points_en_m[:, 2:].T), exact),
    }


def _received(path: Path) -> int:
    """Fixes that the other process has written, each counted once."""
    return len({decode_fix(line).sequence for line in path.read_bytes().splitlines()})


def _title(frames: int, fixes: int, score: Score) -> str:
    """The line over the picture."""
    if score.median_m is None:
        return f"skyfix demo: {frames} frames, no fix"
    return (
        f"skyfix demo: {frames} frames, {fixes} fixes, median error {score.median_m:.1f} m, "
        f"{score.coverage_95_percent or 0:.0f} % in their ellipse"
    )


def _progress() -> Progress:
    """Bars on stderr."""
    return Progress(
        TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=Console(stderr=True),
    )  # fmt: skip


def _advance(progress: Progress, name: str) -> Advance:
    """A bar that is moved by calls with what is done and how much there is."""
    task = progress.add_task(name, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)
