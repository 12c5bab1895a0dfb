import pytest
import torch

from skyfix.train.models.convnext import Block, ConvNeXt


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_maps_have_strides_4_8_16_32_with_sides_rounded_down() -> None:
    maps = ConvNeXt("convnext_atto").forward_features(torch.randn(1, 3, 122, 150))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (40, 30, 37),
        (80, 15, 18),
        (160, 7, 9),
        (320, 3, 4),
    ]


@pytest.mark.parametrize(
    ("size", "stages", "millions"),
    [("convnext_tiny", 3, 12.348), ("convnext_base", 4, 87.56)],  # counts of the published networks
)
def test_parameter_counts_are_the_published_ones(size: str, stages: int, millions: float) -> None:
    with torch.device("meta"):
        trunk = ConvNeXt(size, stages)
    assert parameters(trunk) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_cut_trunk_holds_no_later_stage_and_agrees_with_the_whole() -> None:
    whole, cut = ConvNeXt("convnext_atto"), ConvNeXt("convnext_atto", stages=3)
    assert not [key for key in cut.state_dict() if key.startswith("stages.3")]
    cut.load_state_dict({key: whole.state_dict()[key] for key in cut.state_dict()})
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(cut(images), whole.forward_features(images)[2])


def test_an_mlp_written_as_1x1_convolutions_loads_as_the_same_network() -> None:
    linear, loaded = ConvNeXt("convnext_atto", layer_scale=1.0), ConvNeXt("convnext_atto")
    state = linear.state_dict()
    for key in [key for key in state if ".mlp.fc" in key and key.endswith("weight")]:
        state[key] = state[key][:, :, None, None]
    loaded.load_state_dict(state)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded(images), linear(images))


def test_the_layer_scale_multiplies_what_a_block_adds() -> None:
    block, x = Block(40, layer_scale=1.0), torch.randn(1, 40, 8, 8)
    torch.nn.init.normal_(block.mlp.fc2.bias)
    added = block(x) - x
    torch.nn.init.constant_(block.gamma, 0.1)
    torch.testing.assert_close(block(x) - x, 0.1 * added)


def test_bf16_autocast_gives_nearly_the_same_map() -> None:
    trunk = ConvNeXt("convnext_atto", layer_scale=0.1)
    images = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    exact = trunk(images).flatten(1)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = trunk(images).float().flatten(1)
    assert torch.cosine_similarity(exact, coarse).min() > 0.999


def test_stochastic_depth_drops_whole_images_of_a_block_and_scales_the_others_up() -> None:
    block, x = Block(40, layer_scale=1.0, drop_path=0.25), torch.randn(64, 40, 4, 4)
    with torch.no_grad():
        added = block.eval()(x) - x
        drawn = block.train()(x) - x
    dropped = drawn.flatten(1).abs().amax(dim=1) == 0
    assert 5 < dropped.sum() < 30  # 16 of 64 on average
    torch.testing.assert_close(drawn[~dropped], added[~dropped] / 0.75, atol=1e-5, rtol=1e-4)


def test_blocks_drop_the_more_the_deeper_they_are_also_in_a_cut_trunk() -> None:
    with torch.device("meta"):
        trunk = ConvNeXt("convnext_tiny", stages=3, drop_path=0.1)
    rates = [block.drop_path for block in trunk.modules() if isinstance(block, Block)]
    assert rates == pytest.approx([0.1 * i / 17 for i in range(15)])  # of 18 blocks in all
