import pytest
import torch

from skyfix.train.data.layouts import contrasted_layouts, laid_out


def symmetries(image: torch.Tensor) -> list[torch.Tensor]:
    return [laid_out(image, mirror, turns) for mirror in (False, True) for turns in range(4)]


@pytest.mark.parametrize("heading_deg", [10.0, 90.0])
def test_a_copy_is_never_the_original_and_both_views_move_alike(heading_deg: float) -> None:
    torch.manual_seed(0)
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    mirrored = symmetries(images)[4:]
    for _ in range(60):
        camera, tile, place, scene = contrasted_layouts(
            images, images, torch.zeros(2, 2), torch.tensor([0, 1]), heading_deg
        )
        assert torch.equal(camera[:2], images)
        assert torch.equal(camera, tile)
        assert not torch.equal(camera[2:], images)
        assert place.shape == (4, 2)
        assert scene.tolist() == [0, 1, 2, 3]
        if heading_deg >= 45:  # a turned copy would be a positive for such a descriptor
            assert any(torch.equal(camera[2:], image) for image in mirrored)


def test_all_seven_layouts_occur_where_headings_are_known() -> None:
    torch.manual_seed(1)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    scene, place = torch.tensor([0]), torch.zeros(1, 2)
    seen = {
        tuple(contrasted_layouts(image, image, place, scene, 5.0)[0][1].flatten().tolist())
        for _ in range(200)
    }
    assert seen == {tuple(s.flatten().tolist()) for s in symmetries(image)[1:]}
