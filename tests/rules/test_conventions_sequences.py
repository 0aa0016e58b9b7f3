"""Attention with hidden keys, and the LSTM's gates: torch's choice, in numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.forward import run
from gradwitness.verdict import Verdict
from rules.harness import Case, make
from rules.samples import aten
from rules.samples_recurrent import RECURRENT
from rules.sampling import Draw, normal, sample
from rules.test_conventions import INF, Given
from rules.test_torch import comparisons

flash = aten._scaled_dot_product_flash_attention_for_cpu.default


class Table(Given):
    """Given numbers as the last two axes, one row for each argument."""

    def __init__(self, *rows: tuple[float, ...], axes: int = 4) -> None:
        super().__init__(*(number for row in rows for number in row))
        object.__setattr__(self, "sizes_", (*(1,) * (axes - 2), len(rows), len(rows[0])))

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(self.__dict__["sizes_"])


def attention(q: Table, k: Table, v: Table, **how: Any) -> Case:
    case = make(sample(flash, q, k, v, constant="y[1]", **how))
    return replace(case, gs=tuple(None if g is None else torch.full_like(g, 3.0) for g in case.gs))


def both(case: Case, result: int) -> tuple[list[Any], list[Any]]:
    """What the rule says of a result, and what torch does."""
    return np.ravel(case.values()[result].value).tolist(), np.ravel(case.results[result]).tolist()


ZEROS = Table((0.0, 0.0), (0.0, 0.0))
ONE_TWO = Table((1.0, 1.0), (3.0, 3.0))


def test_query_sees_no_key_after_it_counted_from_the_first() -> None:
    case = attention(ZEROS, Table(*[(0.0, 0.0)] * 3), Table((1, 1), (3, 3), (9, 9)), is_causal=True)
    # Equal scores: the first query has the first value, the second the mean of two.
    for found in both(case, 0):
        assert found == [1, 1, 2, 2]
    for found in both(case, 1):
        assert found == pytest.approx([0, math.log(2)])
    np.testing.assert_allclose(case.gradient("v").ravel(), [4.5, 4.5, 1.5, 1.5, 0, 0])
    np.testing.assert_allclose(case.torch_gradient("v").ravel(), [4.5, 4.5, 1.5, 1.5, 0, 0])


def test_query_without_keys_gets_zeros() -> None:
    q = Table((1.0, 0.0), (2.0, 0.0))
    mask = Table((0.0, -INF), (-INF, -INF), axes=2)
    case = attention(q, ONE_TWO, ONE_TWO, attn_mask=replace_constant(mask))
    for found in both(case, 0):
        assert found == [1, 1, 0, 0]
    for found in both(case, 1):
        assert found == pytest.approx([1 / math.sqrt(2), 0])
    for operand in ("q", "k"):
        # A single key has weight 1, whatever its score.
        assert case.gradient(operand).ravel().tolist() == [0, 0, 0, 0]
        assert case.torch_gradient(operand).ravel().tolist() == [0, 0, 0, 0]
    assert case.gradient("v").ravel().tolist() == [3, 3, 0, 0]
    assert case.torch_gradient("v").ravel().tolist() == [3, 3, 0, 0]


def replace_constant(mask: Table) -> Table:
    object.__setattr__(mask, "constant", True)
    return mask


def test_scores_too_large_for_an_exponential() -> None:
    case = attention(Table((1000.0, 0.0)), ONE_TWO, ONE_TWO, scale=1.0)
    for found in both(case, 0):
        assert found == [3, 3]
    for found in both(case, 1):
        assert found == [3000]


def test_dropout_inside_of_the_kernel_is_not_judged() -> None:
    case = attention(ZEROS, ONE_TWO, ONE_TWO)
    bound = case.bound()
    with pytest.raises(Unjudgeable, match="dropout inside of the kernel"):
        run("the rule", bound.rule.function, *bound.operands, dropout_p=0.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("queries", "keys", "heads"), [(70, 20, 2), (200, 20, 1), (800, 9, 1), (3, 1100, 1)]
)
def test_blocks_are_added_up_in_the_format(queries: int, keys: int, heads: int, dtype: str) -> None:
    """Several blocks of queries, of keys, and heads that share their keys and values."""
    pair = normal(1, 1, keys, 4)
    case = make(sample(flash, normal(1, heads, queries, 4), pair, pair, constant="y[1]"), dtype)
    verdicts = {result: found.verdict for result, found in comparisons(case).items()}
    assert verdicts == dict.fromkeys(("y[0]", "y[1]", "dq", "dk", "dv"), Verdict.AGREES)


class Lowest(Draw):
    """Every second number the most negative one that float32 has, the others 0."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        numbers = np.zeros(self.shape)
        numbers[..., ::2] = np.finfo(np.float32).min
        return numbers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keys_hidden_by_the_most_negative_number(dtype: str) -> None:
    pair = normal(1, 2, 8, 4)
    mask = Lowest((3, 8), constant=True)
    case = make(
        sample(flash, normal(1, 2, 3, 4), pair, pair, attn_mask=mask, constant="y[1]"), dtype
    )
    verdicts = {result: found.verdict for result, found in comparisons(case).items()}
    assert verdicts == dict.fromkeys(("y[0]", "y[1]", "dq", "dk", "dv"), Verdict.AGREES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_one_store_would_not_do_for_heads_that_share(dtype: str) -> None:
    """Torch stores a partial sum for each head: 16 of them, and a bound for one, do not agree."""
    pair = normal(1, 1, 9, 4)
    case = make(sample(flash, normal(1, 16, 9, 4), pair, pair, constant="y[1]"), dtype)
    full = case.gradient("v", Arithmetic.stepwise("float32"))
    off = np.abs(case.torch_gradient("v").astype(np.float64) - full.value)
    assert np.any(off > 2.0 * Arithmetic.fused(dtype).final * np.abs(full.value))


# The LSTM, with one hidden number and the input 0: each gate sees its bias alone.


def layer(*biases: float) -> Case:
    ends: tuple[Any, ...] = (False, [], 2, 1, 1, True, False, False, True)
    zero = Draw((4, 1), gap=0.0)
    return make(
        sample(
            RECURRENT[0].op,
            Table((0.0,), axes=3),
            zero,
            zero,
            Given(*biases),
            Given(0, 0, 0, 0),
            Table((0.0,), axes=2),
            Table((5.0,), axes=2),
            *ends,
        ),
        "float32",
    )


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_gates_stand_in_the_order_input_forget_cell_output() -> None:
    case = layer(0.5, -1.0, 2.0, 0.25)
    c = sigmoid(-1) * 5 + sigmoid(0.5) * math.tanh(2)
    h = sigmoid(0.25) * math.tanh(c)
    for place, expected in enumerate((h, h, c)):
        for found in both(case, place):
            assert found == pytest.approx([expected], rel=1e-6)
    # What the kernel keeps for its backward is not spoken of.
    assert case.values()[3] is None


def test_gates_that_are_shut_and_open() -> None:
    case = layer(-2000.0, 2000.0, 0.0, 2000.0)
    for found in both(case, 2):
        assert found == [5]
    assert case.torch_gradient("b").tolist() == [0, 0, 0, 0]
    assert case.gradient("b") == pytest.approx(0, abs=1e-300)


def test_layer_of_another_kind_is_not_judged() -> None:
    case = layer(0.0, 0.0, 0.0, 0.0)
    bound = case.bound()
    for other in ({"mode": 3}, {"batch_sizes": (2, 1)}):
        with pytest.raises(Unjudgeable, match="no LSTM, or on a packed sequence"):
            run("the rule", bound.rule.function, *bound.operands, **(bound.parameters | other))
