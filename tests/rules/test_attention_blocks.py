"""Attention that is computed block by block is that of all positions at once."""

from __future__ import annotations

import numpy as np
import pytest

from gradwitness.rules import find
from gradwitness.rules.layers import attention
from rules.words_attention import attend, back, factor, heads, log_total, of_heads


@pytest.mark.parametrize("shape", [(7, 5), (7, 1), (1, 5)], ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
def test_blocks_of_queries_and_keys(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], is_causal: bool
) -> None:
    # Two positions at a time: four heads, which share two of keys, have 2 x 4 x 5 scores each.
    monkeypatch.setattr(attention, "_AT_ONCE", 2 * 2 * 4 * 5)
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, *s, 3)) for s in ((4, 7), (2, 5), (2, 5)))
    # A mask may be broadcast along either axis.
    mask = rng.standard_normal((1, 1, *shape))
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
    for operand, right in expected.items():
        sent = rule.gradients[operand]((g, None), y, (q, k, v, mask), form)
        np.testing.assert_allclose(sent, right, rtol=1e-11, atol=1e-13)
