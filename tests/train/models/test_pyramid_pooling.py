import pytest
import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.train.models.pyramid_pooling import pyramid_pooling

SQUARE = ((1, 1), (6, 6), (12, 12), (21, 21))
STREET = ((1, 1), (3, 12), (6, 24), (7, 63))


@pytest.mark.parametrize(
    ("cells", "grid"),
    [
        (SQUARE, (12, 12)),
        (SQUARE, (32, 32)),
        (SQUARE, (48, 48)),
        (STREET, (4, 8)),
        (STREET, (16, 64)),
        (STREET, (40, 80)),
        (((2, 5),), (7, 3)),
    ],
)
def test_pooling_by_a_matrix_is_torchs_adaptive_pooling(
    cells: tuple[tuple[int, int], ...], grid: tuple[int, int]
) -> None:
    image = torch.randn(grid)
    pooled = [F.adaptive_avg_pool2d(image[None], shape).flatten() for shape in cells]
    torch.testing.assert_close(pyramid_pooling(cells, grid) @ image.flatten(), torch.cat(pooled))
