"""What every part of navigation.py starts from: models, packs that are built once, real flights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from flights import FLIGHTS
from navigation_flights import at_scale
from navigation_land import Inset, large_map
from navigation_results import FENGYUAN, LAND, SEEN, UNSEEN
from navigation_still import StillFlight
from rich.console import Console
from rich.progress import Progress

from skyfix.export.packs import build_pack
from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.engines.choose import OPENVINO_BF16
from skyfix.runtime.errors import SkyfixError
from skyfix.runtime.maps.manifest import DEFAULT_ACCURACY_M, Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import RasterReader
from skyfix.runtime.truth import read_truth

FLIGHT_OF = {SEEN: "A", UNSEEN: "B"}
SEEDS = {SEEN: (0, 2), UNSEEN: (1, 3)}
FULL_BLOCKS, QUICK_BLOCKS = 4, 1


@dataclass(frozen=True)
class Bench:
    """What every part of the benchmark takes."""

    data: Path
    packs: Path
    model: Model
    builder: Model  # describes tiles: the same graphs on the engine that is fastest at it
    step_m: float | None  # of packs of large maps
    peers: bool
    quick: bool
    draws: int

    @property
    def blocks(self) -> int:
        """Of drawn land on a side: 100 km2, or 6 km2 in a quick run."""
        return QUICK_BLOCKS if self.quick else FULL_BLOCKS

    @property
    def land_name(self) -> str:
        """What the large map is called in the tables; floors are for the full one."""
        return "6 km2 (quick)" if self.quick else LAND

    def pack(
        self, name: str, reader: RasterReader, gsd_m: float, step_m: float | None = None,
        accuracy_m: float = DEFAULT_ACCURACY_M,
    ) -> TilePack:  # fmt: skip
        """A map's pack, built where it is not there yet."""
        card = self.model.card
        step = "" if step_m is None else f"-{step_m:g}m"
        folder = self.packs / f"{name}-{card.model_id}-{gsd_m:g}m{step}"
        if not folder.exists():
            with bar(f"pack of {name}") as advance:
                build_pack(
                    reader, at_scale(self.builder, gsd_m), folder,
                    imagery=Imagery(accuracy_m=accuracy_m), step_m=step_m, progress=advance,
                )  # fmt: skip
        return as_accurate(TilePack.open(folder, model_id=card.model_id), accuracy_m)

    def fengyuan_pack(self) -> TilePack:
        """Of 0.42 km2."""
        reader = open_raster(self.data / FENGYUAN / "map.tif").reader
        return self.pack(FENGYUAN, reader, self.model.card.gsd_m)

    def land(self, part: str) -> tuple[Inset, TilePack]:
        """The large map of a part and its pack, as it is to a camera over the drawn ground: exact.

        Over an inset it is as accurate as that map: see `as_accurate`.
        """
        number = SEEDS[part][0]
        large = large_map(self.data, self.packs, number, self.blocks)
        name = f"land{number}-{self.blocks}"
        return large, self.pack(name, large, self.model.card.gsd_m, self.step_m, accuracy_m=0.0)

    def fengyuan(self, part: str) -> StillFlight:
        """Flight A or B."""
        flight = FLIGHTS[FLIGHT_OF[part]]
        truth = read_truth(self.data / flight.area / flight.telemetry)
        return StillFlight(flight.recording(self.data), truth)


def as_accurate(pack: TilePack, accuracy_m: float) -> TilePack:
    """An opened pack that states another accuracy of its imagery; no tile depends on it."""
    imagery = msgspec.structs.replace(pack.manifest.imagery, accuracy_m=accuracy_m)
    return replace(pack, manifest=msgspec.structs.replace(pack.manifest, imagery=imagery))


def builder_of(model: str, engine: str | None, loaded: Model) -> Model:
    """The model on the engine that describes tiles soonest (bf16 agrees to a cosine of 0.9999)."""
    try:
        return load_model(model_folder(model), engine=engine or OPENVINO_BF16)
    except SkyfixError:
        if engine is not None:
            raise
        return loaded


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr that is told what is done and what there is."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def counted(advance: Callable[[int, int], None], total: int) -> Callable[[], None]:
    """Advance by one at every call."""
    numbers = iter(range(1, total + 1))
    return lambda: advance(next(numbers), total)


@contextmanager
def kept(packs: Path | None) -> Iterator[Path]:
    """Where packs and land go: a folder that is kept, or one that is not."""
    if packs is not None:
        packs.mkdir(parents=True, exist_ok=True)
        yield packs
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
