"""Miniature data sets in the exact layouts of the real ones, for tests and for short trainings.

    python tests/train/data/miniature.py cvusa ROOT

Every place is a coloured pattern of its own, drawn from its number alone. All its views show that
pattern as the real ones show a place: the ground panorama is the aerial image unrolled around the
centre (north in the middle, clockwise) under a sky, a street view is a part of the panorama, a
drone image is the aerial one turned, magnified and lit otherwise. So a small network can learn
which views belong together, and rotating or mirroring both views of a pair keeps them a pair.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

Image = NDArray[np.uint8]  # (H, W, 3) RGB

AERIAL_PX = 96
PANORAMA_PX = (48, 192)  # H, W
SKY_SHARE = 0.25  # of a panorama's rows
CVUSA_ANNOTATION = "annotations/{0:07d}.png"  # listed, and read by nobody
EMPTY_GOOGLE = 2  # the second building has no web images
LAT, LON = 47.6, -122.3  # of the first VIGOR city's north-west corner
LAT_SPAN, LON_SPAN = 2 * 0.0003280724526, 2 * 0.000433011403  # degrees that an aerial image covers
DENSE_STEP_DEG = 0.0002  # 22 m, as places of DenseUAV are apart
ACT_TEST_IDS = 4


def place(number: int, size: int = AERIAL_PX) -> Image:
    """The aerial image of a place: soft colour fields with bright blocks, north up."""
    rng = np.random.default_rng([number, 1652])
    coarse = rng.uniform(30, 225, (5, 5, 3)).astype(np.float32)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        row, column = rng.integers(0, size - size // 6, 2)
        image[row : row + size // 6, column : column + size // 6] = rng.uniform(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def panorama(
    aerial: Image, size: tuple[int, int] = PANORAMA_PX, at: tuple[float, float] | None = None
) -> Image:
    """What is seen all around from a point (row, column) of an aerial image; its centre if None."""
    sky = int(SKY_SHARE * size[0])
    image = np.full((*size, 3), (150, 190, 235), np.uint8)
    image[sky:] = unrolled(aerial, (size[0] - sky, size[1]), at)
    return image


def unrolled(
    aerial: Image, size: tuple[int, int] = PANORAMA_PX, at: tuple[float, float] | None = None
) -> Image:
    """Rows are circles, the outermost on top; columns are directions, south, west, north, east."""
    height, width = size
    row, column = at or (aerial.shape[0] / 2, aerial.shape[1] / 2)
    radius = np.linspace(AERIAL_PX / 2 - 1, 1, height)[:, None]
    azimuth = 2 * np.pi * ((np.arange(width) + 0.5) / width - 0.5)[None]
    x = (column + radius * np.sin(azimuth)).astype(np.float32)
    y = (row - radius * np.cos(azimuth)).astype(np.float32)
    seen = cv2.remap(aerial, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.uint8)


def drone_view(aerial: Image, rng: np.random.Generator, zoom: float = 1.2) -> Image:
    """The aerial image turned, magnified and lit otherwise."""
    size = aerial.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-30, 30), zoom)
    seen = cv2.warpAffine(aerial, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    lit = seen * rng.uniform(0.8, 1.2) + rng.normal(0, 4, seen.shape)
    return np.array(np.clip(lit, 0, 255), np.uint8)


def street_view(aerial: Image, rng: np.random.Generator) -> Image:
    """A third of the panorama, somewhere in it."""
    around = panorama(aerial, (aerial.shape[0], 3 * aerial.shape[0]))
    turned = np.roll(around, int(rng.integers(around.shape[1])), axis=1)
    return np.array(turned[:, : aerial.shape[0]], np.uint8)


def write(path: Path, image: Image) -> None:
    """An image file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix.lower() in {".jpg", ".jpeg"} else []
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]), quality)


def make_cvusa(root: Path, train: int = 24, test: int = 8, *, repeats: int = 0) -> None:
    """CVUSA with GPS and polar images; the last `repeats` training pairs repeat test pairs."""
    numbers = list(range(1, train + test + 1))
    shown = {number: number for number in numbers}
    for at in range(repeats):
        shown[train - at] = train + 1 + at
    for number in numbers:
        aerial = place(shown[number])
        write(root / f"bingmap/19/{number:07d}.jpg", aerial)
        write(root / f"polarmap/19/{number:07d}.png", unrolled(aerial))
        write(root / f"streetview/panos/{number:07d}.jpg", panorama(aerial))
    line = "bingmap/19/{0:07d}.jpg,streetview/panos/{0:07d}.jpg," + CVUSA_ANNOTATION
    write_lines(root / "splits/train-19zl.csv", [line.format(n) for n in numbers[:train]])
    write_lines(root / "splits/val-19zl.csv", [line.format(n) for n in numbers[train:]])
    locations = [
        f"{40 + n / 100},{-90 - n / 100},{40 + n / 100},{-90.001 - n / 100},0" for n in numbers
    ]
    write_lines(root / "split_locations/all.csv", locations)


def make_cvact(
    root: Path,
    train: int = 24,
    test: int = 8,
    *,
    panorama_px: tuple[int, int] = PANORAMA_PX,
    val_folder: str = "ANU_data_small",
    test_folder: str = "ANU_data_test",
) -> None:
    """CVACT with polar and processed images; `test` validation pairs and a few test pairs."""
    ids = [f"pano{number:018d}" for number in range(train + test + ACT_TEST_IDS)]
    folders = ["ANU_data_small"] * train + [val_folder] * test + [test_folder] * ACT_TEST_IDS
    for number, (pano_id, folder) in enumerate(zip(ids, folders, strict=True)):
        aerial = place(number)
        base = root / folder
        write(base / f"satview_polish/{pano_id}_satView_polish.jpg", aerial)
        write(base / f"streetview/{pano_id}_grdView.jpg", panorama(aerial, panorama_px))
        write(base / f"polarmap/{pano_id}_satView_polish.png", unrolled(aerial))
        write(base / f"streetview_processed/{pano_id}_grdView.png", panorama(aerial))
    order = np.arange(1, len(ids) + 1, dtype=np.float64)[:, None]  # a column, counting from 1
    parts = order[:train], order[train : train + test], order[train + test :]
    structs = {
        # the second field holds the numbers; the first is of no use
        f"{name}": {f"{name.removesuffix('Set')}Num": float(len(part)), field: part}
        for name, field, part in (
            ("trainSet", "trainInd", parts[0]),
            ("valSet", "valInd", parts[1]),
            ("valSetAll", "valInd", parts[2]),
        )
    }
    east_north = np.stack([690_000 + 30 * order[:, 0], 6_090_000 + order[:, 0]], axis=1)
    savemat(root / "ACT_data.mat", {"panoIds": np.array(ids), "utm": east_north, **structs})


def make_vigor(
    root: Path,
    train: int = 12,
    test: int = 4,
    *,
    cities: tuple[str, ...] = ("Chicago", "NewYork", "SanFrancisco", "Seattle"),
    convention: str = "city",
    corrected: bool = False,
) -> None:
    """VIGOR: in each city, overlapping satellites and `train` + `test` panoramas between them."""
    for number, city in enumerate(cities):
        _make_city(root, city, number, train, test, convention=convention, corrected=corrected)


def _make_city(
    root: Path, city: str, number: int, train: int, test: int, *, convention: str, corrected: bool
) -> None:
    """A mosaic of places; satellites overlap by half, so that four cover a panorama."""
    folder = {
        "panorama": f"{city}/panorama" if convention == "city" else f"ground/{city}",
        "satellite": f"{city}/satellite" if convention == "city" else f"satellite/{city}",
    }
    rng = np.random.default_rng(number)
    half, tiles = AERIAL_PX // 2, 5
    mosaic = np.vstack(
        [
            np.hstack([place(1000 + 100 * number + 10 * row + column) for column in range(3)])
            for row in range(3)
        ]
    )
    names = {}
    for row in range(tiles):
        for column in range(tiles):
            lat, lon = _lat_lon(number, (row + 1) * half, (column + 1) * half)
            names[row, column] = f"satellite_{lat:.13f}_{lon:.13f}.png"
            tile = mosaic[row * half : (row + 2) * half, column * half : (column + 2) * half]
            write(root / folder["satellite"] / names[row, column], tile)
    lines = []
    for index in range(train + test):
        y, x = rng.uniform(1.1 * half, (tiles - 0.1) * half, 2)
        lat, lon = _lat_lon(number, y, x)
        name = f"pano{index:018d},{lat:.6f},{lon:.6f},.jpg"
        write(root / folder["panorama"] / name, panorama(mosaic, at=(y, x)))
        lines.append(" ".join([name, *_covering(names, y, x, half)]))
    splits = root / ("splits__corrected" if corrected else "splits") / city
    end = "__corrected.txt" if corrected else ".txt"
    write_lines(splits / "satellite_list.txt", list(names.values()))
    write_lines(splits / f"same_area_balanced_train{end}", lines[:train])
    write_lines(splits / f"same_area_balanced_test{end}", lines[train:])
    write_lines(splits / f"pano_label_balanced{end}", lines)


def _lat_lon(city: int, y: float, x: float) -> tuple[float, float]:
    return LAT + city - y / AERIAL_PX * LAT_SPAN, LON + x / AERIAL_PX * LON_SPAN


def _covering(names: dict[tuple[int, int], str], y: float, x: float, half: int) -> list[str]:
    """Satellite and deltas of the four that cover a point, the nearest centre first."""
    tokens = []
    for (row, column), name in names.items():
        # a point right of and above the centre has deltas (-, -); 640 pixels a side are nominal
        delta = ((y - (row + 1) * half), ((column + 1) * half - x))
        if max(map(abs, delta)) < half:
            nominal = [value * 640 / (2 * half) for value in delta]
            tokens.append((max(map(abs, delta)), f"{name} {nominal[0]:.1f} {nominal[1]:.1f}"))
    return [text for _, text in sorted(tokens)]


def make_university1652(
    root: Path,
    train: int = 12,
    test: int = 6,
    *,
    drones: int = 4,
    distractors: int = 2,
    masked: bool = False,
) -> None:
    """University-1652, one building with an empty google folder; `masked` adds the challenges."""
    for number in range(1, train + 1):
        _make_building(root / "train", "", number, drones)
        google = root / f"train/google/{number:04d}"
        google.mkdir(parents=True)
        if number != EMPTY_GOOGLE:
            write(google / "0.jpg", street_view(place(number), np.random.default_rng(number + 7)))
    for number in range(train + 1, train + test + 1):
        _make_building(root / "test", "query_", number, drones)
    for number in range(train + 1, train + test + distractors + 1):
        _make_building(root / "test", "gallery_", number, drones)
    if masked:
        _make_challenge(root, "drone", "160k", train, test)
        _make_challenge(root, "street", "workshop", train, test)


def _make_building(root: Path, role: str, number: int, drones: int) -> None:
    rng = np.random.default_rng([number, 3])
    aerial = place(number)
    write(root / f"{role}satellite/{number:04d}/{number:04d}.jpg", aerial)
    for index in range(1, drones + 1):
        name = f"{role}drone/{number:04d}/image-{index:02d}.jpeg"
        write(root / name, drone_view(aerial, rng))
    for index in range(2):
        write(root / f"{role}street/{number:04d}/{index}.jpg", street_view(aerial, rng))


def _make_challenge(root: Path, view: str, kind: str, train: int, test: int) -> None:
    """A test with masked names; the list of queries is not in the order of the names."""
    rng = np.random.default_rng(len(kind))
    folders = {
        "160k": (f"query_{view}_160k", "gallery_satellite_160k"),
        "workshop": (f"workshop_query_{view}", "workshop_gallery_satellite"),
    }[kind]
    names = []
    for number in range(train + 1, train + test + 1):
        masks = ["".join(rng.choice(list("abcXYZ0189"), 16)) for _ in range(2)]
        seen = drone_view if view == "drone" else street_view
        write(root / "test" / folders[0] / f"{masks[0]}.jpeg", seen(place(number), rng))
        write(root / "test" / folders[1] / f"{masks[1]}.jpg", place(number))
        names.append(f"{masks[0]}.jpeg")
    write_lines(root / f"test/query_{view}_name.txt", names)


def make_sues200(
    root: Path,
    places: tuple[int, ...] = (1, 2, 3, 8, 12),
    drones: int = 3,
    *,
    unpacked: bool = True,
) -> None:
    """SUES-200 with some of its 200 places (8 and 12 are queries), as unpacked or as split."""
    queries = {8, 12}
    for number in places:
        for height in (150, 200, 250, 300):
            rng = np.random.default_rng([number, height])
            views = [drone_view(place(number), rng, 180 / height) for _ in range(drones)]
            if unpacked:
                folders = [f"drone_view_512/{number:04d}/{height}"]
                satellites = [f"satellite-view/{number:04d}"]
            elif number in queries:
                base = f"Testing/{height}"
                folders = [f"{base}/{role}_drone/{number:04d}" for role in ("query", "gallery")]
                satellites = [
                    f"{base}/{role}_satellite/{number:04d}" for role in ("query", "gallery")
                ]
            else:
                folders = [
                    f"Training/{height}/drone/{number:04d}",
                    f"Testing/{height}/gallery_drone/{number:04d}",
                ]
                satellites = [
                    f"Training/{height}/satellite/{number:04d}",
                    f"Testing/{height}/gallery_satellite/{number:04d}",
                ]
            for folder in folders:
                for index, view in enumerate(views):
                    write(root / folder / f"{index}.jpg", view)
            for folder in satellites:
                write(root / folder / "0.png", place(number))


def make_denseuav(root: Path, train: int = 8, test: int = 4) -> None:
    """DenseUAV: three heights, two dates of the satellite, positions 22 m apart."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(train + test):
        part = "train" if number < train else "test"
        folders = {
            "train": ["train/{view}", "test/gallery_{view}"],
            "test": ["test/query_{view}", "test/gallery_{view}"],
        }[part]
        for height, zoom in ((80, 1.3), (90, 1.2), (100, 1.1)):
            rng = np.random.default_rng([number, height])
            old, new = np.clip(0.8 * place(number), 0, 255).astype(np.uint8), place(number)
            for folder in folders:
                drone, satellite = (
                    root / folder.format(view=v) / f"{number:06d}" for v in ("drone", "satellite")
                )
                write(drone / f"H{height}.JPG", drone_view(new, rng, zoom))
                write(satellite / f"H{height}.tif", new)
                write(satellite / f"H{height}_old.tif", old)
            lon, lat = (
                120.38 + DENSE_STEP_DEG * (number % 4),
                30.32 + DENSE_STEP_DEG * (number // 4),
            )
            lines[part].append(
                f"{part}/drone/{number:06d}/H{height}.JPG E{lon:.7f} N{lat:.7f} {height}.5"
            )
    write_lines(root / "Dense_GPS_train.txt", lines["train"])
    write_lines(root / "Dense_GPS_test.txt", lines["test"])
    write_lines(root / "Dense_GPS_ALL.txt", lines["train"] + lines["test"])


def write_lines(path: Path, lines: list[str]) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


MAKERS: dict[str, Callable[[Path], None]] = {
    "cvusa": make_cvusa,
    "cvact": make_cvact,
    "vigor": make_vigor,
    "university1652": make_university1652,
    "sues200": make_sues200,
    "denseuav": make_denseuav,
}


def main() -> None:
    """Make one data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", choices=sorted(MAKERS))
    parser.add_argument("root", type=Path)
    arguments = parser.parse_args()
    MAKERS[arguments.dataset](arguments.root)


if __name__ == "__main__":
    main()
