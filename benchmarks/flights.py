"""The real flights, and every method's answers to them in one form: the messages of a replay.

skyfix answers through `replay`'s own walk into a file that `score` reads back. The peers' matches
become the same messages, so that one function scores them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from peers import (
    Grey,
    MapSpectra,
    Mask,
    Match,
    SiftMap,
    map_spectra,
    sift_map,
    sift_ransac,
    single_ncc,
)

from skyfix.export.packs import build_pack
from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import RasterReader
from skyfix.runtime.publish.messages import FixMessage, message_from_fix
from skyfix.runtime.replay import Recording, Tally, record_fixes, recording_from_files
from skyfix.runtime.score import read_fixes
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.types import Fix, Frame, LostFrame, Status, Telemetry

UNREFINED = "descriptors alone"
REFINED = "descriptors + refinement"
FILTER = "filter, no prior"
SIFT = "SIFT + RANSAC"
METHODS: Mapping[str, LocalizerSettings] = {
    UNREFINED: LocalizerSettings(independent=True, refine=False),
    REFINED: LocalizerSettings(independent=True),
    FILTER: LocalizerSettings(),
}
NCC_GSDS_M = (2.0, 1.0)  # the scales of DESIGN.md's table
Beside = Callable[[Frame | LostFrame, Telemetry | None], None]
SIFT_GSD_M = 0.5  # nust's own; 0.3 on fengyuan is six times slower and finds no more


@dataclass(frozen=True)
class Flight:
    """Where a flight lies under the data folder."""

    title: str
    area: str  # folder with map.tif and camera.yaml
    frames: str
    telemetry: str

    def recording(self, data: Path) -> Recording:
        """Frames, telemetry and camera, without the truth."""
        folder = data / self.area
        return recording_from_files(
            str(folder / self.frames), str(folder / self.telemetry), folder / "camera.yaml"
        )


FLIGHTS: Mapping[str, Flight] = {
    "A": Flight("fengyuan flight A", "fengyuan", "frames", "flight_A.csv"),
    "B": Flight("fengyuan flight B", "fengyuan", "frames", "flight_B.csv"),
    "nust": Flight("nust", "nust", "video.mp4", "flight.csv"),
}


@dataclass(frozen=True)
class PeerMaps:
    """One area as the peers take it."""

    reader: RasterReader
    spectra: tuple[MapSpectra, ...]  # one for each of NCC_GSDS_M
    keypoints: SiftMap


def opened_pack(raster: Path, model: Model, folder: Path) -> TilePack:
    """The pack of a map image, built where it is not there yet."""
    if not folder.exists():
        build_pack(open_raster(raster).reader, model, folder, imagery=Imagery())
    return TilePack.open(folder, model_id=model.card.model_id)


def own_fixes(
    pack: TilePack, model: Model, recording: Recording, settings: LocalizerSettings,
    beside: Beside | None = None,
) -> list[FixMessage]:  # fmt: skip
    """What `skyfix replay` writes; `beside` looks at every frame after skyfix has."""
    localizer = Localizer(pack, model, recording.camera, settings)

    def step(frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        fix = localizer.step(frame, telemetry)
        if beside is not None:
            beside(frame, telemetry)
        return fix

    with TemporaryDirectory() as folder:
        out = Path(folder) / "fixes.jsonl"
        record_fixes(step, recording, out, Tally())
        return read_fixes(out)


def peer_maps(reader: RasterReader, recording: Recording) -> PeerMaps:
    """Spectra and keypoints of a whole map, which count in no frame's time."""
    spectra = []
    for gsd_m in NCC_GSDS_M:
        grey, valid = whole_map(reader, gsd_m)
        spectra.append(map_spectra(grey, valid, gsd_m, footprint_px(recording, gsd_m)))
    return PeerMaps(reader, tuple(spectra), sift_map(whole_map(reader, SIFT_GSD_M)[0], SIFT_GSD_M))


class Peers:
    """Every peer's answers to the frames of a flight, in turn."""

    def __init__(self, maps: PeerMaps, recording: Recording) -> None:
        """Templates have the recording's footprint."""
        self._maps, self._camera = maps, recording.camera
        self._sides_px = [footprint_px(recording, gsd_m) for gsd_m in NCC_GSDS_M]
        self.answers: dict[str, list[FixMessage]] = {ncc_name(gsd_m): [] for gsd_m in NCC_GSDS_M}
        self.answers[SIFT] = []

    def look(self, frame: Frame | LostFrame, telemetry: Telemetry | None) -> None:
        """Answer to one frame."""
        if not isinstance(frame, Frame) or telemetry is None:
            return
        maps = self._maps
        for spectra, side_px in zip(maps.spectra, self._sides_px, strict=True):
            match = single_ncc(spectra, frame.image, self._camera, telemetry, side_px)
            fix = fix_from_match(match, frame, maps.reader, spectra.gsd_m)
            self.answers[ncc_name(spectra.gsd_m)].append(fix)
        found = sift_ransac(maps.keypoints, frame.image, self._camera, telemetry)
        self.answers[SIFT].append(fix_from_match(found, frame, maps.reader, SIFT_GSD_M))


def ncc_name(gsd_m: float) -> str:
    """Name of masked NCC at one scale."""
    return f"masked NCC, {gsd_m:g} m/px"


def fix_from_match(match: Match, frame: Frame, reader: RasterReader, gsd_m: float) -> FixMessage:
    """A peer's answer as a fix without covariance; no position where it found none."""
    west_m, _, _, north_m = reader.bounds_m
    east_m = west_m + (match.column + 0.5) * gsd_m  # NaN where not found, which no message holds
    center = reader.frame.wgs84_from_en(east_m, north_m - (match.row + 0.5) * gsd_m)
    east, north = match.drone_from_center_en_m
    drone = reader.frame.wgs84_from_en(east_m + east, north_m - (match.row + 0.5) * gsd_m + north)
    fix = Fix(
        frame.frame_id, frame.time_ns, 0, Status.TRACKING, None, model_id="", pack_id="",
        lat_deg=float(drone[0]), lon_deg=float(drone[1]),
        center_lat_deg=float(center[0]), center_lon_deg=float(center[1]),
        score=match.score, latency_ms=match.seconds * 1e3,
    )  # fmt: skip
    return message_from_fix(fix, session="", utc_ns=None)


def whole_map(reader: RasterReader, gsd_m: float) -> tuple[Grey, Mask]:
    """Grey and valid pixels of all that a reader has."""
    west_m, south_m, east_m, north_m = reader.bounds_m
    size_px = (int((north_m - south_m) / gsd_m), int((east_m - west_m) / gsd_m))
    picture = reader.read(west_m, north_m, size_px, gsd_m)
    grey = cv2.cvtColor(picture.image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return grey, picture.valid


def footprint_px(recording: Recording, gsd_m: float) -> int:
    """Side of a patch that holds all that the camera sees from its greatest height."""
    heights_m = [row.telemetry.height_agl_m for row in recording.rows if row.telemetry]
    return int(np.ceil(_diagonal_per_metre(recording.camera) * np.nanmax(heights_m) / gsd_m))


def _diagonal_per_metre(camera: Camera) -> float:
    """Diagonal of the footprint for each metre of height, looking straight down."""
    return float(np.hypot(camera.width_px, camera.height_px) / camera.matrix[0, 0])
