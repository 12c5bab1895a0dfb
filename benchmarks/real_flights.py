r"""The real flights, with the peers in the same run: the tables of docs/results.md.

    python benchmarks/real_flights.py --markdown

A frame that is not localised is not within any distance. `centre` is the ground point in the
image's centre, over the frames whose truth has it; `drone` the point below the camera, over the
frames whose truth has that. Times are from frame in memory to answer: decoding is apart, and so is
what each method prepares once for a map.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
import numpy as np
import typer
from cores import keep_to_two_cores
from flights import (
    FILTER,
    FLIGHTS,
    METHODS,
    NCC_GSDS_M,
    REFINED,
    UNREFINED,
    Flight,
    PeerMaps,
    Peers,
    ncc_name,
    opened_pack,
    own_fixes,
    peer_maps,
)
from tables import ABSENT, TextTable, number, show, verdict

from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.score import FlightScores, Score, score_flight
from skyfix.runtime.truth import Point, Truth, read_truth

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
POOLED = "fengyuan flights A+B"

Answers = Mapping[str, Sequence[FixMessage]]  # method -> a fix for every frame


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one flight."""

    method: str
    scores: FlightScores
    states_covariance: bool  # the peers do not: they can have no false fix and no coverage
    first_fix: int | None  # number of the frame, from 1, that got the first position
    median_ms: float
    p95_ms: float


class Floor(msgspec.Struct, frozen=True):
    """A number that issue 2 asks for."""

    what: str
    bound: str
    reached: float | None
    met: bool


class Result(msgspec.Struct, frozen=True):
    """All methods on one flight."""

    flight: str
    rows: list[Row]
    floors: list[Floor]


def main(
    data: Annotated[Path, typer.Option(help="The folder with fengyuan/ and nust/.")] = DATA,
    model: Annotated[str, typer.Option(help="Shipped model or model folder.")] = "nano",
    flights: Annotated[str, typer.Option(help="Of fengyuan: A or A,B. nust is always run.")] = "A",
    packs: Annotated[
        Path | None, typer.Option(help="Keep the packs here and use them again.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to a file.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for documents.")] = False,
) -> None:
    """Run skyfix and its peers over the real flights and print one table each."""
    keep_to_two_cores()
    names = flights.split(",")
    if not names or set(names) - {"A", "B"}:
        raise InputError(f"--flights {flights}: give A, B or A,B")
    if not data.is_dir():
        raise InputError(f"{data} is not there. Give the folder of the real data with --data.")
    loaded = load_model(model_folder(model))
    results: list[Result] = []
    with _folder(packs) as folder:
        for area in ([FLIGHTS[name] for name in names], [FLIGHTS["nust"]]):
            for result in results_of_area(data, area, loaded, folder):
                print_result(result, markdown=markdown)
                results.append(result)
    if json_out:
        json_out.write_bytes(msgspec.json.encode(results))


def results_of_area(
    data: Path, flights: Sequence[Flight], model: Model, packs: Path
) -> Iterator[Result]:
    """Each flight over one map, then all of them as one where there are several."""
    raster = data / flights[0].area / "map.tif"
    pack = opened_pack(raster, model, packs / f"{flights[0].area}-{model.card.model_id}")
    maps = peer_maps(open_raster(raster).reader, flights[0].recording(data))
    answers, truths = [], []
    for flight in flights:
        answers.append(answers_to_flight(data, flight, model, pack, maps))
        truths.append(read_truth(data / flight.area / flight.telemetry))
        yield result_from_answers(flight.title, answers[-1], truths[-1])
    if len(flights) > 1:
        pooled = {
            method: [fix for of_flight in answers for fix in of_flight[method]]
            for method in answers[0]
        }
        yield result_from_answers(POOLED, pooled, pooled_truth(truths))


def answers_to_flight(
    data: Path, flight: Flight, model: Model, pack: TilePack, maps: PeerMaps
) -> Answers:
    """The fixes of every method, skyfix's own first; peers and refined fixes take turns."""
    recording = flight.recording(data)
    peers = Peers(maps, recording)
    own = {
        method: own_fixes(
            pack, model, recording, settings, peers.look if method == REFINED else None
        )
        for method, settings in METHODS.items()
    }
    return {**own, **peers.answers}


def result_from_answers(title: str, answers: Answers, truth: Mapping[Point, Truth]) -> Result:
    """Score all methods and hold them against the floors."""
    rows = [row_from_fixes(method, fixes, truth) for method, fixes in answers.items()]
    by_method = {row.method: row for row in rows}
    floors = nust_floors(by_method) if title == "nust" else fengyuan_floors(by_method)
    return Result(title, rows, floors)


def row_from_fixes(method: str, fixes: Sequence[FixMessage], truth: Mapping[Point, Truth]) -> Row:
    """One method's scores and times."""
    times_ms = [fix.latency_ms for fix in fixes if fix.latency_ms is not None]
    found = [index for index, fix in enumerate(fixes, start=1) if fix.lat_deg is not None]
    return Row(
        method=method,
        scores=score_flight(fixes, truth),
        states_covariance=any(fix.cov_en_m2 is not None for fix in fixes),
        first_fix=found[0] if found else None,
        median_ms=float(np.median(times_ms)),
        p95_ms=float(np.percentile(times_ms, 95)),
    )


def fengyuan_floors(rows: Mapping[str, Row]) -> list[Floor]:
    """What issue 2 asks for on fengyuan."""
    unrefined = rows[UNREFINED].scores.center.all_frames
    refined = rows[REFINED].scores.center.all_frames
    return [
        _at_least("centre within 50 m, descriptors alone, %", 88, unrefined.within_50_m_percent),
        _at_least("centre within 25 m, with refinement, %", 100, refined.within_25_m_percent),
        _at_most("centre's median error, with refinement, m", 4.5, refined.median_m),
        _at_most("frame to fix, with refinement, median ms", 25, rows[REFINED].median_ms),
    ]


def nust_floors(rows: Mapping[str, Row]) -> list[Floor]:
    """What issue 2 asks for on nust."""
    later = rows[FILTER].scores.center.from_first_fix
    what = "centre within 25 m after the first fix, filter, %"
    return [_at_least(what, 85, later.within_25_m_percent)]


def pooled_truth(truths: Sequence[Mapping[Point, Truth]]) -> dict[Point, Truth]:
    """Several flights' truth as one."""
    points: tuple[Point, Point] = ("drone", "center")
    return {
        point: Truth(
            frames=tuple(frame for truth in truths for frame in truth[point].frames),
            lat_deg=np.concatenate([truth[point].lat_deg for truth in truths]),
            lon_deg=np.concatenate([truth[point].lon_deg for truth in truths]),
            std_m=np.concatenate([truth[point].std_m for truth in truths]),
        )
        for point in points
    }


def print_result(result: Result, *, markdown: bool) -> None:
    """Accuracy, time and floors of one flight."""
    for table in (
        accuracy_table(result),
        time_table(result),
        TextTable(
            f"{result.flight}: what is asked",
            ("what", "bound", "reached", ""),
            [
                (floor.what, floor.bound, number(floor.reached), verdict(met=floor.met))
                for floor in result.floors
            ],
        ),
    ):
        show(table, markdown=markdown)


def accuracy_table(result: Result) -> TextTable:
    """A line for each method and each kind of point whose truth is known."""
    header = (
        "method", "point", "frames", "localised %", "in 10 m %", "in 25 m %", "in 50 m %",
        "median m", "p95 m", "false", "68 % has", "95 % has",
    )  # fmt: skip
    lines = []
    for row in result.rows:
        points = {
            "centre": row.scores.center.all_frames,
            "centre, from first fix": row.scores.center.from_first_fix,
            "drone": row.scores.drone.all_frames,
            "drone, from first fix": row.scores.drone.from_first_fix,
        }
        for point, score in points.items():
            late_start = row.method == FILTER and row.first_fix not in {None, 1}
            if score.frames and (late_start or "first" not in point):
                lines.append((row.method, point, *_score_cells(row, score)))
    return TextTable(f"{result.flight}: errors", header, lines)


def time_table(result: Result) -> TextTable:
    """Frame to answer, and the speed beside the peers'."""
    peers = {gsd_m: _row(result, ncc_name(gsd_m)).median_ms for gsd_m in NCC_GSDS_M}
    header = (
        "method", "first fix at frame", "median ms", "p95 ms",
        *(f"speed, NCC {gsd_m:g} m = 1" for gsd_m in peers),
    )  # fmt: skip
    lines = [
        (
            row.method, number(row.first_fix), number(row.median_ms), number(row.p95_ms),
            *(number(peer_ms / row.median_ms, 2) for peer_ms in peers.values()),
        )
        for row in result.rows
    ]  # fmt: skip
    return TextTable(f"{result.flight}: frame to answer", header, lines)


def _score_cells(row: Row, score: Score) -> list[str]:
    honest: list[float | None] = [
        score.false_fixes, score.coverage_68_percent, score.coverage_95_percent,
    ]  # fmt: skip
    return [
        *(
            number(value)
            for value in (
                score.frames, score.localised_percent, score.within_10_m_percent,
                score.within_25_m_percent, score.within_50_m_percent, score.median_m, score.p95_m,
            )
        ),
        *(number(value) if row.states_covariance else ABSENT for value in honest),
    ]  # fmt: skip


def _row(result: Result, method: str) -> Row:
    return next(row for row in result.rows if row.method == method)


def _at_least(what: str, bound: float, reached: float | None) -> Floor:
    return Floor(what, f">= {bound:g}", reached, reached is not None and reached >= bound)


def _at_most(what: str, bound: float, reached: float | None) -> Floor:
    return Floor(what, f"<= {bound:g}", reached, reached is not None and reached <= bound)


@contextmanager
def _folder(packs: Path | None) -> Iterator[Path]:
    """Where packs go: a folder that is kept, or one that is not."""
    if packs is not None:
        packs.mkdir(parents=True, exist_ok=True)
        yield packs
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    try:
        typer.run(main)
    except SkyfixError as error:
        sys.exit(f"error: {error}")
