"""Layout extractors against torch's own transformer and loops over the K descriptors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skyfix.train.models.geodtr_layouts import (
    Encoder,
    GeometricLayoutExtractor,
    SaliencyLayoutExtractor,
    orthonormal_columns,
)

BATCH, PLACES = 2, 25


def scattered(module: nn.Module) -> nn.Module:
    """With parameters that all matter; the published start leaves the maps nearly constant."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def torchs_encoder(encoder: nn.Module, width: int, layers: int, heads: int) -> nn.Module:
    inner = encoder.state_dict()["layers.0.linear1.bias"].shape[0]
    layer = nn.TransformerEncoderLayer(width, heads, inner, activation="gelu", batch_first=True)
    theirs = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
    theirs.load_state_dict(encoder.state_dict())
    return theirs.eval()


@pytest.mark.parametrize(
    ("layers", "heads", "feedforward"), [(2, 4, 96), (1, 8, 32), (3, 2, 64), (6, 1, 48)]
)
def test_the_encoder_is_torchs_by_names_and_numbers(
    layers: int, heads: int, feedforward: int
) -> None:
    ours = Encoder(64, feedforward, 0.3, layers, heads)
    scattered(ours)
    tokens = torch.randn(2, 9, 64)
    theirs = torchs_encoder(ours, 64, layers, heads)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layouts", [2, 8])
@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize(
    ("normalize", "orthogonalize"), [(False, False), (True, False), (True, True), (False, True)]
)
def test_version_2_is_the_published_chain(
    layouts: int, layers: int, bottleneck: bool, normalize: bool, orthogonalize: bool
) -> None:
    extractor = GeometricLayoutExtractor(
        16, PLACES, layouts, layers, 4, 32, 0.3, bottleneck, normalize, orthogonalize
    )
    scattered(extractor)
    features = torch.randn(BATCH, PLACES, 16)
    maps = features
    if layers:
        encoder = torchs_encoder(extractor.transformer_encoder, 16, layers, 4)
        maps = encoder(features + extractor.state_dict()["pe.pe"])
    maps = extractor.pointwise(maps)
    if bottleneck:
        columns = []
        for k in range(layouts):
            inner = maps[:, :, k] @ extractor.w1[k] + extractor.b1[0, k]
            columns.append(inner @ extractor.w2[k] + extractor.b2[0, k])
        maps = torch.stack(columns, dim=2)
    if not normalize:
        expected = 1 / (1 + (-maps).exp())
    elif orthogonalize:
        expected = torch.linalg.qr(maps).Q
    else:
        expected = maps / maps.square().sum(dim=1, keepdim=True).sqrt()
    tolerance = 1e-3 if orthogonalize else 2e-5  # QR: of nearly parallel random maps
    torch.testing.assert_close(extractor(features), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("layouts", [2, 8])
@pytest.mark.parametrize(("layers", "heads"), [(0, 4), (2, 4), (1, 2)])
def test_version_1_is_the_published_chain(layouts: int, layers: int, heads: int) -> None:
    extractor = SaliencyLayoutExtractor(PLACES, layouts, layers, heads, 32, 0.3)
    scattered(extractor)
    features = torch.randn(BATCH, PLACES, 40)
    saliency = features.amax(dim=2)
    channel = features.argmax(dim=2) / 40
    rows = torch.stack(
        [saliency @ extractor.w1[:, k] + extractor.b1[0, k] for k in range(layouts)], dim=1
    )
    if extractor.tr_module is not None:
        position = extractor.tr_module.pos_encoder
        code = torch.stack(
            [
                channel @ position.linear[:, k] + position.embedding_parameter[0, k]
                for k in range(layouts)
            ],
            dim=1,
        )
        encoder = torchs_encoder(extractor.tr_module.transformer_encoder, 12, layers, heads)
        rows = encoder(rows + code.clamp(-1, 1))
    expected = torch.stack(
        [rows[:, k] @ extractor.w2[:, k] + extractor.b2[0, k] for k in range(layouts)], dim=2
    ).clamp(-1, 1)
    assert 0.05 < (expected.abs() == 1).float().mean() < 0.95  # both parts of the hardtanh
    torch.testing.assert_close(extractor(features), expected, atol=2e-5, rtol=1e-4)


@given(rows=st.integers(9, 30), count=st.integers(1, 8), seed=st.integers(0, 2**31))
@settings(max_examples=30)
def test_orthonormal_columns_are_lapacks_q_with_its_signs(rows: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(3, rows, count, generator=generator, dtype=torch.float64)
    q = orthonormal_columns(columns)
    torch.testing.assert_close(q, torch.linalg.qr(columns).Q, atol=1e-9, rtol=0)
    torch.testing.assert_close(q.mT @ q, torch.eye(count, dtype=torch.float64).expand(3, -1, -1))


def test_orthonormal_columns_have_the_gradients_of_torchs_decomposition() -> None:
    columns = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 7, 3, dtype=torch.float64)
    (ours,) = torch.autograd.grad((orthonormal_columns(columns) * weights).sum(), columns)
    (theirs,) = torch.autograd.grad((torch.linalg.qr(columns).Q * weights).sum(), columns)
    torch.testing.assert_close(ours, theirs)


def test_an_unused_bottleneck_is_kept_but_does_not_learn() -> None:
    extractor = GeometricLayoutExtractor(16, PLACES, 3, 1, 4, 32, 0.0, bottleneck=False)
    features = torch.randn(1, PLACES, 16)
    before = extractor(features)
    nn.init.normal_(extractor.w1)
    assert torch.equal(extractor(features), before)
    frozen = {name for name, p in extractor.named_parameters() if not p.requires_grad}
    assert frozen == {"w1", "b1", "w2", "b2"}


def test_random_layouts_fill_the_range_of_the_squash() -> None:
    layouts = torch.empty(4, PLACES, 8)
    v1 = SaliencyLayoutExtractor(PLACES, 8, 1, 4, 32, 0.0).random_like(layouts)
    v2 = GeometricLayoutExtractor(16, PLACES, 8, 1, 4, 32, 0.0).random_like(layouts)
    for drawn, low in ((v1, -1.0), (v2, 0.0)):
        assert low <= drawn.min() < low + 0.05
        assert 0.95 < drawn.max() <= 1


def test_random_layouts_are_of_unit_length_where_layouts_are() -> None:
    extractor = GeometricLayoutExtractor(16, PLACES, 8, 1, 4, 32, 0.0, normalize=True)
    drawn = extractor.random_like(torch.empty(4, PLACES, 8))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(4, 8))
    assert (drawn >= 0).all()


def test_weights_start_as_published() -> None:
    v1 = SaliencyLayoutExtractor(256, 8, 2, 4, 32, 0.3)
    v2 = GeometricLayoutExtractor(64, 256, 8, 2, 4, 32, 0.3)
    assert v1.tr_module is not None
    position = v1.tr_module.pos_encoder
    for weight in (v1.w1, v1.w2, v2.w1, v2.w2, position.linear):
        assert weight.std().item() == pytest.approx(0.005, rel=0.02)
    for bias in (v1.b1, v1.b2, v2.b1, v2.b2):
        assert (bias == 0.1).all()
    assert not position.embedding_parameter.any()
    assert not v2.state_dict()["pe.pe"].any()
