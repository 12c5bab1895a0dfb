import torch

from skyfix.train.data.erasing import (
    Rectangles,
    coarsely_dropped,
    covered,
    draw_coarse,
    draw_erased,
    erased,
    grid_dropped,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_covered_pixels_are_those_of_a_naive_loop() -> None:
    rectangles = Rectangles(
        torch.tensor([[1.0, 5.0], [0.0, 0.0]]), torch.tensor([[2.0, 3.0], [6.0, 0.0]]),
        torch.tensor([[3.0, 4.0], [9.0, 0.0]]), torch.tensor([[4.0, 2.0], [2.0, 5.0]]),
    )  # fmt: skip
    out = covered(rectangles, (9, 8))
    for image in range(2):
        for row in range(9):
            for column in range(8):
                inside = any(
                    top <= row < top + height and left <= column < left + width
                    for top, left, height, width in zip(
                        rectangles.top[image], rectangles.left[image],
                        rectangles.height[image], rectangles.width[image], strict=True,
                    )
                )  # fmt: skip
                assert bool(out[image, row, column]) == inside


def test_erased_rectangles_lie_inside_and_have_the_stated_area_and_aspect() -> None:
    drawn = draw_erased(3000, (64, 64), generator())
    assert (drawn.top >= 0).all()
    assert (drawn.top + drawn.height <= 64).all()
    assert (drawn.left >= 0).all()
    assert (drawn.left + drawn.width <= 64).all()
    area = drawn.height * drawn.width / 64**2
    assert 0.015 < area.min() < 0.03
    assert 0.36 < area.max() < 0.42
    aspect = drawn.height / drawn.width
    assert 0.25 < aspect.min() < 0.36
    assert 2.8 < aspect.max() < 3.8
    assert (drawn.top + drawn.height == 64).any()  # the last row can be met


def test_a_share_of_the_images_loses_one_rectangle() -> None:
    images = torch.ones(1000, 3, 16, 16)
    out = erased(images, 0.4, generator(2))
    hit = (out == 0).any(3).any(2).any(1)
    assert 0.36 < hit.float().mean() < 0.44
    assert torch.equal(out[:, 0], out[:, 2])


def test_coarse_holes_follow_the_height_even_in_panoramas() -> None:
    drawn = draw_coarse(500, (50, 200), generator())
    holes = (drawn.height > 0).sum(1)
    assert holes.min() == 10
    assert holes.max() == 25
    sides = torch.cat([drawn.height[drawn.height > 0], drawn.width[drawn.height > 0]])
    assert (int(sides.min()), int(sides.max())) == (5, 10)
    assert (drawn.left + drawn.width).max() == 200


def test_coarse_dropout_blackens_and_leaves_the_rest() -> None:
    images = torch.rand(4, 3, 40, 40, generator=generator(1)) + 0.01
    out = coarsely_dropped(images, generator(3))
    kept = out != 0
    assert torch.equal(out[kept], images[kept])
    assert 0.5 < kept.float().mean() < 0.95
    assert not torch.equal(kept[0], kept[1])


def test_the_grid_blackens_a_corner_of_every_unit() -> None:
    out = grid_dropped(torch.ones(1, 3, 20, 100), 0.4)  # units of 10, holes of 4
    black = (out[0, 0] == 0).nonzero().tolist()
    assert black == [[r, c] for r in range(20) for c in range(100) if r % 10 < 4 and c % 10 < 4]
