"""Long sums: by the probable bound of terms in no order, or as a 16-bit kernel rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing import fan_in
from gradwitness.judging.comparing.comparison import IN_TURN, PROBABLE
from gradwitness.judging.comparing.piecewise import Pieces
from gradwitness.judging.comparing.records import Records
from gradwitness.verdict import Verdict

A, I = Verdict.AGREES, Verdict.INCONCLUSIVE  # noqa: E741
ONCE = replace(Arithmetic.stepwise("float32"), stretches=1)


def one_by_one(terms: Any) -> Any:
    """Add along the first axis in float32, one after the other."""
    return np.add.accumulate(terms.astype(np.float32), axis=0, dtype=np.float32)[-1]


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_terms_in_no_order_stay_within_their_bound(shift: float) -> None:
    terms = np.random.default_rng(0).normal(shift, 1, (100_000, 16)).astype(np.float32)
    exact = terms.astype(np.float64)
    total: Any = np.sum(Bounded(exact, ONCE), axis=0)  # type: ignore[call-overload]
    error = np.abs(one_by_one(terms) - total.value)
    # Much narrower than the other probable bound where terms cancel, but not too narrow.
    usual = 6 * 2.0**-24 * np.sqrt(1e5) * np.abs(exact).sum(0)
    assert (error < total.probable / 5).all()
    assert (total.probable < usual / (5 if shift else 50)).all()
    assert error.max() > total.probable.max() / 100


def test_products_in_no_order_stay_within_their_bound() -> None:
    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=s).astype(np.float32) for s in ((8, 20_000), (20_000, 8)))
    left, right = (Bounded(x.astype(np.float64), ONCE) for x in (a, b))
    for total in (left @ right, np.einsum("ij,jk->ik", left, right)):  # type: ignore[call-overload]
        products = a.T[:, :, None] * b[:, None, :]
        error = np.abs(one_by_one(products) - total.value)
        assert (error < total.probable / 5).all()
        assert (total.probable < total.rigorous / 500).all()


def often(dtype: torch.dtype, count: int, *, ordered: bool = False) -> gw.Witness:
    """Look one word up so often that the sum of its gradients has little left."""
    torch.manual_seed(0)
    layer = nn.Embedding(3, 2, dtype=dtype)
    g = torch.randn(count, 2, dtype=dtype)
    if ordered:
        g = g.sort(dim=0).values
    with gw.watch(layer) as witness:
        layer(torch.zeros(count, dtype=torch.int64)).backward(g)
    return witness


def told(witness: gw.Witness, factor: float) -> gw.Report:
    """Judge again as if the words' gradient had been sent, and stored, with a factor."""
    tape = witness.tape
    numbers = {run.outgoing[0] for run in tape.sweeps[0].node_runs[:1]}
    layouts = {tape.values[n].layout for n in numbers if n is not None}
    values = tuple(
        replace(v, array=(v.array.astype(np.float64) * factor).astype(v.array.dtype))
        if v.array is not None and v.shape == (3, 2) and v.layout in layouts
        else v
        for v in tape.values
    )
    return gw.judge(replace(tape, values=values))


@pytest.mark.usefixtures("by_bounds")
def test_a_long_sum_that_cancels_agrees_by_its_probable_bound() -> None:
    witness = often(torch.float32, 100_000)
    (row,) = witness.report.rows
    assert (row.verdict, row.comparison.reason) == (A, PROBABLE)
    # In the worst case 2 n u sum |g|, and sum |g| is sqrt(n) times the sum: more than 100 % of it.
    assert row.comparison.detects_relative < 0.01
    assert 2 * row.comparison.bound > np.abs(row.comparison.expected)
    assert "AGREES by the probable bound" in str(witness)
    assert row.grounds == PROBABLE


@pytest.mark.parametrize("factor", [0.0, 1.02, -1.0])
def test_what_is_beyond_the_probable_bound_is_not_said_to_cancel(factor: float) -> None:
    (row,) = told(often(torch.float32, 100_000), factor).rows
    assert row.verdict is I
    (row,) = told(often(torch.float32, 100_000), 1.0).rows
    assert row.verdict is A


@pytest.mark.low_precision
def test_sums_at_places_are_rounded_as_the_kernel_adds() -> None:
    # Of 8192 random terms bfloat16 loses more than a twentieth.
    witness = often(torch.bfloat16, 8192)
    (row,) = witness.report.rows
    assert (row.verdict, row.comparison.reason) == (A, IN_TURN)
    assert row.digits < 2
    assert "AGREES as its kernel rounds" in str(witness)
    assert [note.kind for note in witness.report.notes] == ["digits lost"]
    (row,) = told(witness, 1.01).rows
    assert row.verdict is not A


def test_large_gradients_are_added_in_pieces() -> None:
    random = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(torch.randn(900, 900, generator=random) / 30)
    x = torch.randn(2, 900, generator=random)
    with gw.watch(keep=None) as witness:
        for _ in range(3):
            x = torch.tanh(x @ w)
        torch.autograd.backward(x.square().sum())
    tape = witness.tape
    records, (leaf,) = Records(tape), tape.sweeps[0].leaves
    runs = tape.sweeps[0].node_runs
    (arrived,) = next(run.incoming for run in runs if run.node == leaf.node)
    assert arrived is not None
    sent = [
        number
        for run in runs
        for edge, number in zip(tape.nodes[run.node].edges, run.outgoing, strict=True)
        if edge is not None and edge.node == leaf.node and number is not None
    ]
    assert len(sent) == 3
    pieces = fan_in.arriving(tape, records, sent, 0, arrived)
    assert isinstance(pieces, Pieces)
    whole, at_once = pieces.whole(), fan_in.total(tape, records, sent, 0, arrived)
    assert whole is not None
    assert np.array_equal(whole.value, at_once.value)
    assert whole.rigorous is not None
    assert np.array_equal(whole.rigorous, at_once.rigorous)
    assert records.against(arrived, pieces).verdict is gw.Verdict.AGREES
    array = tape.values[arrived].array
    assert array is not None
    wrong = array.copy()
    wrong[-1, -1] *= 1.01
    value = replace(tape.values[arrived], array=wrong)
    assert records.compared(value, pieces).verdict is gw.Verdict.DISAGREES
