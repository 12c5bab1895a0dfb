import torch

from skyfix.train.data.mfrgn_augment import mfrgn_changed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(count: int) -> torch.Tensor:
    rough = torch.rand(1, 3, 6, 8, generator=generator(7))
    smooth = torch.nn.functional.interpolate(rough, scale_factor=8.0, mode="bicubic")
    return (0.1 + 0.8 * smooth.clamp(0, 1)).expand(count, 3, 48, 64)


def test_changes_keep_the_range_and_follow_the_seed() -> None:
    images = scene(64)
    before = images.clone()
    out = mfrgn_changed(images, 0.4, generator(0))
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, mfrgn_changed(scene(64), 0.4, generator(0)))
    assert torch.equal(images, before)  # the caller keeps its images


def test_some_images_pass_unchanged_and_some_lose_parts() -> None:
    images = scene(400)
    out = mfrgn_changed(images, 0.4, generator(1))
    same = (out == images).flatten(1).all(1).float().mean()
    assert abs(same - 0.5 * 0.5 * 0.7 * 0.7) < 0.05
    dropped = ((out == 0).all(1).flatten(1).float().mean(1) > 0.02).float().mean()
    assert abs(dropped - 0.3) < 0.06


def test_the_ratio_sets_how_much_the_grid_takes() -> None:
    images = torch.ones(60, 3, 100, 100)
    taken = {
        ratio: {
            round(float(share), 2)
            for share in (mfrgn_changed(images, ratio, generator(2)) == 0).float().mean((1, 2, 3))
        }
        for ratio in (0.4, 0.5)
    }
    assert 0.16 in taken[0.4]
    assert 0.25 in taken[0.5]
