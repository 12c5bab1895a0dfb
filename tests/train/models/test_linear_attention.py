import torch

from skyfix.train.models.linear_attention import CrossLayer, linear_attention


def test_it_equals_the_sum_over_all_pairs_of_tokens() -> None:
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 9, 8), torch.randn(2, 4, 9, 8)
    pairs = torch.zeros(2, 4, 5, 9)
    for t in range(5):
        for s in range(9):
            q = torch.where(query[:, :, t] > 0, query[:, :, t] + 1, query[:, :, t].exp())
            k = torch.where(key[:, :, s] > 0, key[:, :, s] + 1, key[:, :, s].exp())
            pairs[:, :, t, s] = (q * k).sum(dim=-1)
    expected = pairs / pairs.sum(dim=-1, keepdim=True) @ value
    torch.testing.assert_close(linear_attention(query, key, value), expected, atol=1e-5, rtol=1e-5)


def test_thousands_of_tokens_stay_in_the_range_of_fp16() -> None:
    big = torch.full((1, 1, 4000, 32), 8.0, dtype=torch.float16)
    assert torch.allclose(linear_attention(big, big, big), big, rtol=0.01)


def test_a_layer_ignores_the_order_of_its_source() -> None:
    layer = CrossLayer(32).eval()
    tokens, source = torch.randn(1, 3, 32), torch.randn(1, 7, 32)
    torch.testing.assert_close(layer(tokens, source), layer(tokens, source.flip(1)))
