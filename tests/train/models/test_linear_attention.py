import pytest
import torch

from skyfix.train.models.linear_attention import (
    AttentionName,
    CrossLayer,
    CrossStack,
    linear_attention,
    softmax_attention,
)


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


def test_keys_that_vanish_leave_the_published_small_constant_in_the_denominator() -> None:
    count, query, key = 50, torch.zeros(1, 1, 1, 1), torch.full((1, 1, 50, 1), -16.0)
    value = torch.ones(1, 1, count, 1)
    total = count * torch.tensor(-16.0, dtype=torch.float64).expm1().add(1)  # phi(query) is 1
    expected = total / (total + 1e-6)  # 0.85: the constant counts
    assert linear_attention(query.double(), key.double(), value.double()).item() == pytest.approx(
        expected.item()
    )


def test_thousands_of_tokens_stay_in_the_range_of_fp16() -> None:
    big = torch.full((1, 1, 4000, 32), 8.0, dtype=torch.float16)
    assert torch.allclose(linear_attention(big, big, big), big, rtol=0.01)


def test_softmax_attention_is_torchs_at_a_temperature_of_the_root_of_the_heads_width() -> None:
    query, key, value = torch.randn(2, 4, 5, 32), torch.randn(2, 4, 9, 32), torch.randn(2, 4, 9, 32)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=32**-0.5)
    torch.testing.assert_close(softmax_attention(query, key, value), expected)


@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_a_layer_ignores_the_order_of_its_source(attention: AttentionName) -> None:
    layer = CrossLayer(32, 64, 0.3, attention).eval()
    tokens, source = torch.randn(1, 3, 32), torch.randn(1, 7, 32)
    torch.testing.assert_close(layer(tokens, source), layer(tokens, source.flip(1)))


def test_the_chosen_attention_is_the_one_that_runs() -> None:
    linear, softmax = CrossLayer(32, 64, 0.0), CrossLayer(32, 64, 0.0, "softmax")
    softmax.load_state_dict(linear.state_dict())
    tokens, source = torch.randn(1, 3, 32), torch.randn(1, 7, 32)
    assert not torch.allclose(linear(tokens, source), softmax(tokens, source), atol=1e-4)


def test_later_layers_of_a_stack_see_the_updated_tokens_in_their_source() -> None:
    stack = CrossStack(32, 2, 64, 0.0)
    tokens, before, after = torch.randn(1, 3, 32), torch.randn(1, 4, 32), torch.randn(1, 5, 32)
    once = stack.layers[0](tokens, torch.cat([before, tokens, after], dim=1))
    twice = stack.layers[1](once, torch.cat([before, once, after], dim=1))
    torch.testing.assert_close(stack(tokens, before, after), twice)
