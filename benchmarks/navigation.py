r"""Fixes that a pilot can trust: every table of issue 5, the peers in the same run.

    python benchmarks/navigation.py --packs PACKS [--only still|flights|big|simulated|wrong]

Seen is what may be looked at while something is tuned: fengyuan flight A, the first half of nust,
even seeds. Unseen (flight B, the second half of nust, odd seeds) is run with --unseen, for the
tables that are shown. Every seed is fixed. Packs are built once; --packs keeps them and the land
that they are of.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from cores import keep_to_two_cores
from flights import FLIGHTS, NCC_GSDS_M
from navigation_bench import FLIGHT_OF, SEEDS, Bench, as_accurate, bar, builder_of, counted, kept
from navigation_flights import SimulatedFlight, real_row, simulated_row
from navigation_land import Part, area_km2, flown_bounds, seen_from_above
from navigation_noise import CONSTANT_20, EXACT, NO_HEADING, UNKNOWN, WITHIN_20
from navigation_results import DRAWN, FENGYUAN, LAND, NAIP, NUST, SEEN, UNSEEN, Results
from navigation_scores import part_of_truth
from navigation_still import peer_ground, still_rows
from navigation_tables import tables
from navigation_wrong import Nowhere, grounds, wrong_row
from tables import show

from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import load_model, model_folder
from skyfix.runtime.engines.choose import DEFAULT_ENGINE
from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.runtime.maps.manifest import DEFAULT_ACCURACY_M
from skyfix.runtime.replay import Recording
from skyfix.runtime.truth import read_truth

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NUST_MIDDLE = 676  # frame number that the second half of the video starts with
YEARS = {  # naip: map and camera by seed; 2020 is not seen while tuning
    0: ("20120731", "20160816"), 2: ("20160816", "20090818"),
    1: ("20160816", "20200831"), 3: ("20200831", "20120731"),
}  # fmt: skip
NAIP_GSD_M = 5.0
# NAIP's specification of absolute accuracy: 95 % of well-defined points within 6 m of true ground
# (USDA Farm Service Agency, Aerial Photography Field Office), a CE95: 6 / sqrt(-2 ln 0.05) m per
# axis. The truth of a simulated flight is in the frame of the year that the camera sees, the map is
# of another, and each is off by as much: what counts is the difference of two such errors. It is
# stated as a user would state it; where two years lie closer, ellipses are wider than they need be.
NAIP_YEAR_STD_M = 6.0 / math.sqrt(-2 * math.log(0.05))
NAIP_ACCURACY_M = math.sqrt(2) * NAIP_YEAR_STD_M
NAIP_HEIGHT_M, DRAWN_HEIGHT_M = 480.0, 120.0  # 1.1 tiles wide in the picture, at both scales
PART_M = 1000.0  # half the side of the part of a large map that the peers search
WRONG_FRAMES = {FENGYUAN: 800, LAND: 200}  # five grounds, seen and unseen: 10,000 in all


class Only(str, Enum):
    """Parts of the benchmark."""

    STILL = "still"
    FLIGHTS = "flights"
    BIG = "big"
    SIMULATED = "simulated"
    WRONG = "wrong"


def main(
    data: Annotated[Path, typer.Option(help="The folder with fengyuan/, nust/, naip/.")] = DATA,
    model: Annotated[str, typer.Option(help="Shipped model or model folder.")] = "nano",
    engine: Annotated[str, typer.Option(help="What localises.")] = DEFAULT_ENGINE,
    pack_engine: Annotated[
        str | None, typer.Option(help="What builds packs; OpenVINO in bf16 where it runs.")
    ] = None,
    packs: Annotated[Path | None, typer.Option(help="Keep packs and land here.")] = None,
    only: Annotated[list[Only] | None, typer.Option(help="These parts; may be repeated.")] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Seen data; the default.")] = False,
    unseen: Annotated[bool, typer.Option("--unseen", help="Unseen data, too with --seen.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything, 6 km2.")] = False,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="skyfix alone.")] = False,
    draws: Annotated[int, typer.Option(min=1, help="Of errors, for frames alone.")] = 1,
    step: Annotated[
        float | None, typer.Option(help="Tile step of the large packs in metres.")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="All numbers to a file.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for documents.")] = False,
) -> None:
    """Run skyfix and its peers over everything, and print one table for each claim."""
    keep_to_two_cores()
    if not data.is_dir():
        raise InputError(f"{data} is not there. Give the folder of the real data with --data.")
    parts = [part for part, wanted in ((SEEN, seen or not unseen), (UNSEEN, unseen)) if wanted]
    results = Results()
    with kept(packs) as folder:
        loaded = load_model(model_folder(model), engine=engine)
        bench = Bench(
            data, folder, loaded, builder_of(model, pack_engine, loaded), step,
            not no_peers, quick, draws,
        )  # fmt: skip
        for chosen in only or list(Only):
            for part in parts:
                WALKS[chosen](bench, part, results)
    for table in tables(results):
        show(table, markdown=markdown)
    if json_out:
        json_out.write_bytes(msgspec.json.encode(results))


def still(bench: Bench, part: str, results: Results) -> None:
    """Every frame alone over fengyuan's own map."""
    flight, pack = bench.fengyuan(part), bench.fengyuan_pack()
    ground = None
    if bench.peers:
        reader = open_raster(bench.data / FENGYUAN / "map.tif").reader
        ground = peer_ground(reader, flight.recording, NCC_GSDS_M, sift=True)
    for errors in (EXACT, WITHIN_20, UNKNOWN):
        results.still += still_rows(
            FENGYUAN, part, flight, errors, pack, bench.model, bench.draws, ground,
            every=5 if bench.quick else 1,
        )  # fmt: skip


def big(bench: Bench, part: str, results: Results) -> None:
    """The same set into the large map; the peers search a part of it."""
    flight, (large, exact) = bench.fengyuan(part), bench.land(part)
    pack = as_accurate(exact, DEFAULT_ACCURACY_M)  # flown over fengyuan's map, which is real
    west, south, east, north = large.bounds_m
    small = Part(large, (max(west, -PART_M), max(south, -PART_M),
                         min(east, PART_M), min(north, PART_M)))  # fmt: skip
    ground = None
    if bench.peers:
        ground = peer_ground(small, flight.recording, NCC_GSDS_M[:1], sift=False)
    for errors in (EXACT, WITHIN_20, UNKNOWN):
        results.still += still_rows(
            bench.land_name, part, flight, errors, pack, bench.model, bench.draws, ground,
            every=9 if bench.quick else 3, scaled_by=area_km2(large) / area_km2(small),
        )  # fmt: skip
    title = f"{FENGYUAN} {FLIGHT_OF[part]} in {bench.land_name}"
    results.flights.append(
        real_row(title, part, flight.recording, flight.truth, WITHIN_20, pack, bench.model)
    )


def flights(bench: Bench, part: str, results: Results) -> None:
    """The real flights with the filter."""
    flight, pack = bench.fengyuan(part), bench.fengyuan_pack()
    title = f"{FENGYUAN} {FLIGHT_OF[part]}"
    for errors in (WITHIN_20, CONSTANT_20, UNKNOWN):
        results.flights.append(
            real_row(title, part, flight.recording, flight.truth, errors, pack, bench.model)
        )
    video = FLIGHTS[NUST].recording(bench.data)
    half = nust_half(video, part)
    truth = read_truth(bench.data / NUST / FLIGHTS[NUST].telemetry)
    known = part_of_truth(truth, (row.frame for row in half.rows))
    reader = open_raster(bench.data / NUST / "map.tif").reader
    over_nust = bench.pack(NUST, reader, bench.model.card.gsd_m)
    results.flights.append(real_row(NUST, part, half, known, NO_HEADING, over_nust, bench.model))


def simulated(bench: Bench, part: str, results: Results) -> None:
    """Flights of 20 km over naip and over drawn land."""
    frames = 150 if bench.quick else 1000
    large, pack = bench.land(part)
    for seed in SEEDS[part][:1] if bench.quick else SEEDS[part]:
        of_map, of_camera = (open_raster(bench.data / NAIP / f"{year}.tif").reader
                             for year in YEARS[seed])  # fmt: skip
        over_naip = bench.pack(
            f"{NAIP}{YEARS[seed][0]}", of_map, NAIP_GSD_M, accuracy_m=NAIP_ACCURACY_M
        )
        for planned in (
            SimulatedFlight(
                f"{NAIP} {seed}: {YEARS[seed][0][:4]} from {YEARS[seed][1][:4]}", part, seed,
                of_camera, of_camera.bounds_m, NAIP_HEIGHT_M, over_naip, bench.model, frames,
            ),
            SimulatedFlight(
                f"{DRAWN} {seed}", part, seed, seen_from_above(large), flown_bounds(large),
                DRAWN_HEIGHT_M, pack, bench.model, frames,
            ),
        ):  # fmt: skip
            with bar(planned.title) as advance:
                results.flights.append(simulated_row(planned, counted(advance, frames)))


def wrong(bench: Bench, part: str, results: Results) -> None:
    """Flights over what is on no map."""
    seed = SEEDS[part][0]
    packs = {FENGYUAN: bench.fengyuan_pack()}
    if not bench.quick:
        packs[LAND] = bench.land(part)[1]
    for title, ground in grounds(bench.data, bench.packs, seed).items():
        for land, pack in packs.items():
            frames = 50 if bench.quick else WRONG_FRAMES[land]
            nowhere = Nowhere(title, part, seed, ground, frames)
            with bar(f"{title} over {land}") as advance:
                step = counted(advance, frames)
                results.wrong.append(wrong_row(nowhere, land, pack, bench.model, step))


WALKS: dict[Only, Callable[[Bench, str, Results], None]] = {
    Only.STILL: still, Only.FLIGHTS: flights, Only.BIG: big,
    Only.SIMULATED: simulated, Only.WRONG: wrong,
}  # fmt: skip


def nust_half(video: Recording, part: str) -> Recording:
    """The frames of one half of the video."""
    rows = tuple(
        row for row in video.rows if (int(row.frame) < NUST_MIDDLE) == (part == SEEN)
    )  # fmt: skip
    return replace(video, rows=rows)


if __name__ == "__main__":
    try:
        typer.run(main)
    except SkyfixError as error:
        sys.exit(f"error: {error}")
