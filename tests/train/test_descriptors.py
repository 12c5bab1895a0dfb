from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from skyfix.runtime.errors import InputError, ModelError, SkyfixError
from skyfix.train.data.normalise import normalised
from skyfix.train.data.sets import ImageSet
from skyfix.train.descriptors import Describer, RowFile, descriptors, view_for
from skyfix.train.models.build import build_network
from skyfix.train.models.config import GeoDTRPlusDroneConfig, University1652Config
from skyfix.train.models.network import Network

SIDE_PX = 32
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    config = GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=16)
    size = (SIDE_PX, SIDE_PX)
    return build_network(config, {"drone": size, "satellite": size})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(folder: Path, count: int, view: str = "drone") -> ImageSet:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    paths = []
    for number in range(count):
        pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        paths.append(folder / f"{number:03d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return ImageSet(view, tuple(paths), np.arange(count))


def describer(
    network: Network, *, batch: int = 3, workers: int = 0, flip: bool = False
) -> Describer:
    return Describer(network, CPU, "area", flip=flip, batch=batch, workers=workers)


def described(
    network: Network, test_images: ImageSet, path: Path, *, batch: int = 3, workers: int = 0
) -> NDArray[np.float32]:
    found = describer(network, batch=batch, workers=workers).describe(
        test_images, path, lambda _: None
    )
    assert found.kept.tolist() == list(range(len(test_images)))
    return found.rows


def test_rows_are_the_networks_descriptors_in_the_sets_order(
    network: Network, tmp_path: Path
) -> None:
    shown = images(tmp_path, 7)
    rows = described(network, shown, tmp_path / "rows.npy")
    pixels = np.stack([np.asarray(Image.open(path)) for path in shown.paths])
    batch = normalised(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    with torch.no_grad():
        expected = network.eval().encode("drone", batch).descriptor.numpy()
    assert rows.shape == (7, 16)
    assert np.allclose(rows, expected, atol=1e-6)


def test_batches_and_workers_do_not_change_the_rows(network: Network, tmp_path: Path) -> None:
    shown = images(tmp_path, 7)
    one = described(network, shown, tmp_path / "a.npy", batch=7)
    other = described(network, shown, tmp_path / "b.npy", batch=2, workers=1)
    assert np.allclose(one, other, atol=1e-6)


def test_a_broken_image_has_no_row_and_is_named(network: Network, tmp_path: Path) -> None:
    shown = images(tmp_path, 7)
    whole = described(network, shown, tmp_path / "whole.npy")
    shown.paths[3].write_bytes(shown.paths[3].read_bytes()[:90])
    found = describer(network).describe(shown, tmp_path / "rows.npy", lambda _: None)
    assert found.broken == (shown.paths[3],)
    assert found.kept.tolist() == [0, 1, 2, 4, 5, 6]
    assert np.allclose(found.rows, np.delete(whole, 3, axis=0), atol=1e-6)


def test_more_broken_images_than_one_in_a_hundred_stop(network: Network, tmp_path: Path) -> None:
    shown = images(tmp_path, 7)
    for path in shown.paths[2:4]:
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 images of 7 .* first is .*002\.png"):
        describer(network).describe(shown, tmp_path / "rows.npy", lambda _: None)
    assert not list(tmp_path.glob("rows*"))


def test_a_network_that_training_uses_is_left_in_training(network: Network, tmp_path: Path) -> None:
    network.train()
    described(network, images(tmp_path, 2), tmp_path / "rows.npy")
    assert network.training


def test_every_image_is_reported_once(network: Network, tmp_path: Path) -> None:
    steps: list[int] = []
    describer(network).describe(images(tmp_path, 7), tmp_path / "rows.npy", steps.append)
    assert steps == [3, 3, 1]


def test_a_network_that_has_diverged_is_told(network: Network, tmp_path: Path) -> None:
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match="diverged"):
            described(network, images(tmp_path, 2), tmp_path / "rows.npy")
    finally:
        network.load_state_dict(weights)


def test_flip_summed_descriptors_do_not_change_with_the_mirror(network: Network) -> None:
    batch = torch.randn(2, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0))
    network.eval()
    with torch.no_grad():
        one = descriptors(network, "drone", batch, flip=True)
        other = descriptors(network, "drone", batch.flip(-1), flip=True)
        plain = descriptors(network, "drone", batch, flip=False)
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(one.norm(dim=1), torch.ones(2))
    assert not torch.allclose(one, plain, atol=1e-3)


def test_university_1652_sums_features_before_they_get_unit_length() -> None:
    torch.manual_seed(0)
    config = University1652Config(views=2, classes=2)
    network = build_network(config, {"satellite": (32, 32), "drone": (32, 32)}).eval()
    batch = torch.randn(2, 3, 32, 32)
    lengths = torch.tensor([[1.0], [9.0]])
    features = torch.randn(2, 512) * lengths
    seen = iter((features[:1], features[1:]))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "features", lambda _view, _images: next(seen))
        found = descriptors(network, "drone", batch[:1], flip=True)
    expected = features.sum(dim=0, keepdim=True)
    assert torch.allclose(found, expected / expected.norm(), atol=1e-6)


@pytest.mark.parametrize(
    ("views", "wanted", "expected"),
    [
        (("ground", "aerial"), "aerial", "aerial"),
        (("camera", "map"), "drone", "camera"),
        (("camera", "map"), "satellite", "map"),
        (("drone", "satellite"), "ground", "drone"),
        (("satellite", "street", "drone"), "google", "street"),
        (("satellite", "street", "drone"), "drone", "drone"),
    ],
)
def test_images_go_to_the_view_of_their_name_or_side(
    views: tuple[str, ...], wanted: str, expected: str
) -> None:
    assert view_for(views, wanted) == expected


@pytest.mark.parametrize(
    ("views", "wanted"),
    [(("satellite", "street", "drone"), "ground"), (("camera",), "aerial"), (("a", "b"), "c")],
)
def test_a_view_that_none_or_several_stand_for_is_refused(
    views: tuple[str, ...], wanted: str
) -> None:
    with pytest.raises(InputError, match=f"stands for '{wanted}'"):
        view_for(views, wanted)


def test_a_file_with_fewer_rows_than_expected_reads_whole(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    with RowFile(tmp_path / "rows.npy", 123456) as file:
        file.append(rows[:4])
        file.append(rows[4:])
    assert np.array_equal(np.load(tmp_path / "rows.npy"), rows)


def test_an_error_leaves_the_file_of_before_alone(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.ones(3, np.float32))
    shown = images(tmp_path / "images", 7)
    for broken in shown.paths[5:]:  # the third batch stops, two are written
        broken.write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read"):
        described(network, shown, path)
    assert np.load(path).tolist() == [1, 1, 1]
    assert not (tmp_path / "rows.npy.part").exists()


@pytest.mark.parametrize("rows", [2, 20_000])
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path, rows: int) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "rows.npy.part").symlink_to("/dev/full")

    def write() -> None:
        with RowFile(tmp_path / "rows.npy", rows) as file:
            file.append(np.zeros((rows, 2), np.float32))

    with pytest.raises(SkyfixError, match=r"No space left.* --descriptors"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(SkyfixError, match="cannot be written"),
        RowFile(tmp_path / "absent" / "rows.npy", 4),
    ):
        pass
