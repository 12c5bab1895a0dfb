import pytest
import torch

from skyfix.runtime.errors import InputError
from skyfix.train.data.augment import RECIPES, augmentation_from_name
from skyfix.train.data.layout_simulation import (
    Layouts,
    panoramas_in_layouts,
    squares_in_layouts,
)
from skyfix.train.data.normalise import IMAGENET_MEAN, IMAGENET_STD, normalised

SIZES = {"ground": (24, 80), "aerial": (32, 32), "satellite": (32, 32), "drone": (32, 32)}
VIEWS_OF = {
    **dict.fromkeys(RECIPES, ("ground", "aerial")),
    **dict.fromkeys([n for n in RECIPES if "drone" in n or "1652" in n], ("drone", "satellite")),
}
POLAR = [name for name in RECIPES if name.endswith("polar")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(name: str, count: int = 6) -> dict[str, torch.Tensor]:
    sizes = {view: SIZES[view] for view in VIEWS_OF[name]}
    if name in POLAR:
        sizes["aerial"] = sizes["ground"]
    return {
        view: torch.rand(count, 3, *size, generator=generator(11)) for view, size in sizes.items()
    }


@pytest.mark.parametrize("name", RECIPES)
def test_results_are_normalised_images_of_the_same_shape(name: str) -> None:
    views = batch(name)
    out = augmentation_from_name(name)(views, generator())
    assert list(out) == list(views)
    mean, std = (torch.tensor(part)[:, None, None] for part in (IMAGENET_MEAN, IMAGENET_STD))
    for view, images in out.items():
        assert images.shape == views[view].shape
        levels = images * std + mean
        assert levels.min() >= -1e-5
        assert levels.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "none"])
def test_the_seed_decides(name: str) -> None:
    augment = augmentation_from_name(name)
    first, again, other = (augment(batch(name), generator(seed)) for seed in (3, 3, 4))
    for view in first:
        assert torch.equal(first[view], again[view])
        assert not torch.equal(first[view], other[view])


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_batches_stay_on_their_device(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    views = {view: images.cuda() for view, images in batch(name).items()}
    drawn = torch.Generator("cuda").manual_seed(0)
    out = augmentation_from_name(name)(views, drawn)
    assert all(images.is_cuda and images.isfinite().all() for images in out.values())


def test_none_only_normalises() -> None:
    views = batch("none")
    out = augmentation_from_name("none")(views, generator())
    assert all(torch.equal(out[view], normalised(images)) for view, images in views.items())


@pytest.mark.parametrize("name", ["none", "geodtr_strong", "geodtr_strong_polar", "mfrgn"])
def test_contrasted_copies_double_the_batch(name: str) -> None:
    views = batch(name)
    out = augmentation_from_name(name, chsg=True)(views, generator())
    assert all(out[view].shape == (12, *views[view].shape[1:]) for view in views)


def test_the_second_copies_lie_in_another_layout_that_both_views_share() -> None:
    views = batch("none", 40)
    out = augmentation_from_name("none", chsg=True)(views, generator())
    seen = set()
    for row in range(40):
        matches = []
        for mirrored in (False, True):
            for turns in range(4):
                one = Layouts(torch.tensor([mirrored]), torch.tensor([turns]))
                aerial = normalised(squares_in_layouts(views["aerial"][row : row + 1], one))
                ground = normalised(panoramas_in_layouts(views["ground"][row : row + 1], one))
                if torch.equal(out["aerial"][40 + row], aerial[0]):
                    assert torch.equal(out["ground"][40 + row], ground[0])
                    matches.append((mirrored, turns))
        assert len(matches) == 1
        seen.update(matches)
    assert (False, 0) not in seen
    assert len(seen) == 7


def marked(count: int) -> dict[str, torch.Tensor]:
    """North-east is bright in the aerial image, a panorama and a polar image."""
    ground, aerial = torch.full((count, 3, 24, 80), 0.2), torch.full((count, 3, 32, 32), 0.2)
    ground[..., 44:56] = 0.8
    aerial[..., 4:12, 20:28] = 0.8
    return {"ground": ground, "aerial": aerial}


@pytest.mark.parametrize("name", ["geodtr_strong", "mfrgn"])
@pytest.mark.parametrize("chsg", [False, True])
def test_both_views_of_a_pair_show_the_landmark_in_one_direction(name: str, chsg: bool) -> None:
    out = augmentation_from_name(name, chsg)(marked(40), generator(5))
    east, south = (
        out["aerial"][..., 16:].mean((1, 2, 3)),
        out["aerial"][..., 16:, :].mean((1, 2, 3)),
    )
    west, north = (
        out["aerial"][..., :16].mean((1, 2, 3)),
        out["aerial"][..., :16, :].mean((1, 2, 3)),
    )
    quarter = out["ground"].mean((1, 2)).reshape(-1, 4, 20).mean(2).argmax(1)
    in_aerial = torch.where(
        east > west, torch.where(north > south, 2, 3), torch.where(north > south, 1, 0)
    )  # SW, NW, NE, SE: a panorama's quarters from south over west
    agree = (quarter == in_aerial).float().mean()
    assert agree == 1.0 if name == "geodtr_strong" else agree > 0.85  # dropout may hide it
    assert len(set(quarter.tolist())) == 4


def test_a_polar_image_moves_as_its_panorama() -> None:
    ground = torch.rand(20, 3, 24, 80, generator=generator(6))
    augment = augmentation_from_name("geodtr_strong_polar", chsg=True)
    out = augment({"ground": ground, "aerial": ground.clone()}, generator(7))
    profile = {view: images.mean((1, 2)) for view, images in out.items()}  # (40, 80)
    for one, other in zip(profile["ground"], profile["aerial"], strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.6


def test_weak_layouts_are_only_mirrored() -> None:
    out = augmentation_from_name("geodtr_weak")(marked(60), generator(8))
    quarter = out["ground"].mean((1, 2)).reshape(-1, 4, 20).mean(2).argmax(1)
    assert set(quarter.tolist()) == {1, 2}  # north-west, north-east


def test_only_the_satellite_turns_beside_a_drone_and_both_are_mirrored() -> None:
    image = torch.full((60, 3, 32, 32), 0.2)
    image[..., 0:16, 16:32] = 0.8
    views = {"drone": image, "satellite": image}
    out = augmentation_from_name("mfrgn_drone")(views, generator(9))
    blocks = {
        view: images.mean(1).reshape(60, 2, 16, 2, 16).mean((2, 4)).flatten(1).argmax(1)
        for view, images in out.items()
    }
    assert set(blocks["drone"].tolist()) == {0, 1}  # never below
    assert set(blocks["satellite"].tolist()) == {0, 1, 2, 3}


def test_erasing_spares_the_satellite_and_fills_with_the_mean() -> None:
    views = {view: torch.ones(100, 3, 32, 32) for view in ("street", "satellite")}
    out = augmentation_from_name("university1652_erasing")(views, generator(1))
    hit = (out["street"] == 0).flatten(1).any(1).float().mean()
    assert 0.25 < hit < 0.55
    assert not (out["satellite"] == 0).any()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'autoaugment'.*geodtr_strong"):
        augmentation_from_name("autoaugment")


def test_views_drawn_alone_cannot_be_contrasted() -> None:
    with pytest.raises(InputError, match="CHSG needs pairs"):
        augmentation_from_name("university1652", chsg=True)
