"""Results that a rule takes as they were recorded are right ones, or they are refuted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

A, D = Verdict.AGREES, Verdict.DISAGREES
TABLE = torch.tensor([[1.0, 5.0], [3.0, 5.0], [2.0, 4.0], [9.0, 9.0]])
SYMMETRIC = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 4.0]])


def judged(function: Callable[[], Any], result: int, at: Any, number: Any) -> set[Verdict]:
    """Return the verdicts on the last call where a number of one of its results is another one."""
    with gw.watch(keep=None) as witness:
        function()
    tape = witness.tape
    call = next(c for c in reversed(tape.calls) if not c.is_view and len(c.outputs) > result)
    output = call.outputs[result]
    assert output is not None
    array = np.array(tape.values[output].array)
    array[at] = number
    values = [replace(v, array=array) if v.id == output else v for v in tape.values]
    findings = gw.judge(replace(tape, values=tuple(values))).findings
    return {f.verdict for f in findings if f.call == call.id}


@pytest.mark.parametrize(
    ("row", "verdict"),
    # Rows 0, 1 and 2 are in the bag, and 5 stands in the first two: whose it is, is open.
    [(1, A), (0, A), (2, D), (3, D)],
)
def test_the_row_of_a_largest_element_is_one_that_has_it(row: int, verdict: Verdict) -> None:
    def largest() -> Any:
        # A bag of three rows, and an empty one.
        words, starts = torch.tensor([0, 1, 2]), torch.tensor([0, 3])
        return torch.ops.aten._embedding_bag(TABLE, words, starts, False, 2)

    assert verdict in judged(largest, 3, (0, 1), row)
    assert (D in judged(largest, 3, (0, 1), row)) is (verdict is D)


@pytest.mark.parametrize(
    ("at", "pivot"),
    # A block of two, then one row: rows that there are not, two rows in a block, and half a block.
    [(2, 7), (2, 0), (0, 0), (1, -3), (2, -3)],
)
def test_rows_that_were_not_exchanged_are_refuted(at: int, pivot: int) -> None:
    def factored() -> Any:
        return torch.linalg.ldl_factor(SYMMETRIC)

    right = torch.linalg.ldl_factor(SYMMETRIC)[1].numpy()
    assert judged(factored, 1, at, right[at]) == {A}
    assert right[at] != pivot
    assert D in judged(factored, 1, at, pivot)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0, float("nan"), x),
        lambda x: x.masked_fill(x > 0, float("nan")),
        lambda x: torch.nanmedian(torch.stack([x, torch.full_like(x, float("nan"))]), 0)[0],
    ],
)
def test_nan_that_is_not_chosen_spoils_no_other_number(function: Any) -> None:
    x = torch.tensor([-1.0, 2.0, -3.0])
    verdicts = judged(lambda: function(x), 0, 2, -3.001)
    assert D in verdicts


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3), (2, 3, 3)])
def test_factors_of_nothing_and_of_several_matrices_agree(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    with gw.watch() as witness:
        torch.linalg.ldl_factor(x + x.mT)
    findings = [f for f in witness.report.findings if "ldl" in f.title]
    # Without numbers there is nothing to find, and no rule that fails.
    assert {f.verdict for f in findings} == ({A} if x.numel() else set())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_determinant_of_nothing_is_1(dtype: torch.dtype) -> None:
    def determinant() -> Any:
        return torch.linalg.det(torch.empty(0, 0, dtype=dtype))

    assert A in judged(determinant, 0, (), 1.0)
    assert D in judged(determinant, 0, (), 1.0 + 1e-9)


@pytest.mark.parametrize("at", [(0, 0), (0, 2), (2, 2), (1, 0)])
@pytest.mark.parametrize("result", [0, 1])
def test_factors_change_by_no_more_than_they_are_said_to_show(
    result: int, at: tuple[int, int]
) -> None:
    """A number of Q or R that is moved by more than the step detects is not passed over."""
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    with gw.watch(keep=None) as witness:
        torch.linalg.qr(x)
    finding = witness.report.findings[result]
    assert finding.verdict is A
    right = torch.linalg.qr(x)[result][at].item()
    step = 1.01 * finding.comparison.detects * (1 if right >= 0 else -1)
    assert judged(lambda: torch.linalg.qr(x), result, at, right + step) != {A}


def test_an_eigenvalue_is_refuted_and_its_vectors_are_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 5)
    with gw.watch(keep=None) as witness:
        torch.linalg.eigh(x + x.T)
    found = next(f for f in witness.report.findings if "eigh" in f.title and f.tensor_nr == 0)
    value = torch.linalg.eigh(x + x.T)[0][0].item()
    verdicts = judged(
        lambda: torch.linalg.eigh(x + x.T), 0, 0, value + 1.01 * found.comparison.detects
    )
    assert verdicts == {A, D}
