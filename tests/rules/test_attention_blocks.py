"""Attention that is computed block by block is that of all positions at once."""

from __future__ import annotations

import numpy as np
import pytest

from gradwitness.rules import find
from gradwitness.rules.layers import attention
from rules.words_attention import attend, back, factor, heads, log_total, of_heads


# What is taken at once: two positions, where four heads have 4 x 5 scores each; a sample's heads of
# 7 x 5 scores, or three of them; both samples.
@pytest.mark.parametrize("at_once", [2 * 4 * 5, 4 * 7 * 5, 3 * 7 * 5, 2 * 4 * 7 * 5], ids=str)
# A mask may be broadcast along any axis.
@pytest.mark.parametrize("shape", [(1, 1, 7, 5), (7, 1), (4, 1, 5), (2, 1, 7, 5)], ids=str)
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("is_causal", [False, True])
def test_blocks_of_queries_and_keys(
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    shape: tuple[int, ...],
    shared: int,
    is_causal: bool,
) -> None:
    monkeypatch.setattr(attention, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    own = (4 // shared, 5)
    q, k, v = (rng.standard_normal((2, *s, 3)) for s in ((4, 7), own, own))
    mask = rng.standard_normal(shape)
    rule = find("aten._scaled_dot_product_flash_attention_for_cpu")
    assert rule
    form = {"dropout_p": 0.0, "is_causal": is_causal, "scale": None}
    y = rule.function(q, k, v, mask, **form)
    p = attend(q, k, mask, is_causal, None)
    np.testing.assert_allclose(y[0], p @ heads(v, q), rtol=1e-12)
    np.testing.assert_allclose(y[1], log_total(q, k, mask, is_causal, None), rtol=1e-12)
    g = rng.standard_normal(y[0].shape)
    scores = back(p, g @ np.swapaxes(heads(v, q), 2, 3)) * factor(q, None)
    expected = {
        "q": scores @ heads(k, q),
        "k": of_heads(np.swapaxes(scores, 2, 3) @ q, k),
        "v": of_heads(np.swapaxes(p, 2, 3) @ g, v),
    }
    sent = rule.gradients["q"]((g, None), y, (q, k, v, mask), form)
    for operand, gradient in zip(rule.gradients["q"].together, sent, strict=True):
        np.testing.assert_allclose(gradient, expected[operand], rtol=1e-11, atol=1e-13)
