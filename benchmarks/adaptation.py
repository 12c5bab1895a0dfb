"""Does fine-tuning on the area's own map help? R@1 before and after, on views it has not seen.

    python benchmarks/adaptation.py --data ../shared/data --minutes 5

naip          the map is of 2012, the camera sees 2009, 2016 or 2020; a pixel counts as one of the
              model's, as for a camera at the height that suits it
drawn         the map is drawn; the camera sees it in another light, with other cars and crops

Views are drawn over the whole map, and, in lines of their own, over the block that was held out of
learning. A row says `refused` where `skyfix train --adapt` would not have taken the new weights,
whose numbers it shows all the same. CPU minutes are of all threads; the processes that draw pairs
take their own beside them.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import rasterio
import torch
from tables import TextTable, number, show

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train.adapt import Adaptation, adapt, adapted_run
from skyfix.train.adapt_start import start_from
from skyfix.train.held_out import Bounds, draw_block, draw_exam, gain_in_deviations

MAP_YEAR, CAMERA_YEARS = "2012", ("2009", "2016", "2020")
DRAWN_SEEDS = (7, 8)  # training draws its maps with seeds from 1000 on
DRAWN_SIDE_M = (1500.0, 1200.0)
REAL_APPEARANCE = 0.5  # of the camera, beside what the years changed
VIEWS = 400
SEED = 20_000
HEADER = ("map, camera", "views over", "R@1 before", "after", "deviations", "steps",
          "minutes", "CPU minutes", "")  # fmt: skip


@dataclass(frozen=True)
class Area:
    """A map to adapt to, and what cameras see there."""

    name: str
    ground: Raster
    cameras: dict[str, Raster]
    appearance: float  # of the cameras


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each map")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(0)  # workers are forked
    gsd_m = start_from(options.model).run.view.gsd_m
    rows = [row for area in _areas(options.data, gsd_m) for row in _rows(area, options)]
    title = f"{options.model} adapted, {options.minutes:g} minutes a map on {options.device}"
    show(TextTable(title, HEADER, rows), markdown=options.markdown)


def _areas(data: Path, gsd_m: float) -> Iterator[Area]:
    if (data / "naip").is_dir():
        years = {year: _naip(data, year, gsd_m) for year in (MAP_YEAR, *CAMERA_YEARS)}
        ground = years.pop(MAP_YEAR)
        yield Area(f"naip {MAP_YEAR}", ground, years, REAL_APPEARANCE)
    for seed in DRAWN_SEEDS:
        drawn = town_and_country(seed, *DRAWN_SIDE_M, gsd_m / 2, LocalFrame(0.0, 0.0))
        yield Area(f"drawn {seed}", drawn, {"another day": drawn}, 1.0)


def _naip(data: Path, year: str, gsd_m: float) -> Raster:
    (path,) = (data / "naip").glob(f"{year}*.tif")
    with rasterio.open(path) as file:
        image = np.ascontiguousarray(file.read([1, 2, 3]).transpose(1, 2, 0))
    return Raster(image, image.max(axis=2) > 0, LocalFrame(0.0, 0.0), 0.0, 0.0, gsd_m)


def _rows(area: Area, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    start, device = start_from(options.model), torch.device(options.device)
    run = adapted_run(start.run, area.name, area.name, "not stated", options.workers)
    network = start.network.to(device)
    rng = np.random.default_rng(SEED)
    view = msgspec.structs.replace(start.run.view, camera_appearance=area.appearance)
    block = draw_block(area.ground, run.view, np.random.default_rng(run.seed))  # adapt's own
    exams = {
        (camera, where): draw_exam(area.ground, seen, bounds, view, rng, VIEWS)
        for camera, seen in area.cameras.items()
        for where, bounds in _places(area.ground, block).items()
    }
    before = {key: exam.found(network, device) for key, exam in exams.items()}
    cpu_s = time.process_time()
    found = adapt(network, run, area.ground, options.minutes, device, time.monotonic)
    cpu_s = time.process_time() - cpu_s
    network.load_state_dict(found.learned)
    for (camera, where), exam in exams.items():
        after = exam.found(network, device)
        first = before[camera, where]
        sure = gain_in_deviations(first, after)
        shares = float(first.mean()), float(after.mean())
        yield _row(f"{area.name}, {camera}", where, shares, sure, found, cpu_s)
    shares = found.before, found.after
    yield _row(f"{area.name}, simulated", "held out", shares, found.deviations, found, cpu_s)


def _places(ground: Raster, block: Bounds) -> dict[str, Bounds]:
    return {"all": ground.bounds_m, "held out": block}


def _row(
    name: str, where: str, shares: tuple[float, float], sure: float, found: Adaptation, cpu_s: float
) -> tuple[str, ...]:
    return (
        name, where, *(number(100 * share) for share in shares), number(sure),
        str(found.steps), number(found.seconds / 60), number(cpu_s / 60),
        "taken" if found.better else "refused",
    )  # fmt: skip


if __name__ == "__main__":
    main()
