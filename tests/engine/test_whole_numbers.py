"""Whole numbers stay whole, and a rule that fails is one step that is not judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.forward import as_recorded, evaluate, run
from gradwitness.rules.registry import find
from gradwitness.tape import Argument, Call, Ref, Tape, Value


class Buckets(nn.Module):
    """A bias by distance, looked up in buckets that widen: whole numbers by way of a logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(8, 2)

    def forward(self, length: int) -> torch.Tensor:
        at = torch.arange(length)
        gap = (at[None] - at[:, None]).abs()
        wide = 4 + (torch.log(gap.float() / 4 + 0.3) / np.log(4) * 4).to(torch.long)
        wide = torch.minimum(wide, torch.full_like(wide, 7))
        found: torch.Tensor = self.bias(torch.where(gap < 4, gap, wide))
        return found


def test_indices_that_were_made_of_real_numbers_are_replayed_as_whole_ones() -> None:
    model = Buckets()
    with gw.watch(model) as witness:
        model(9).square().sum().backward()
    assert witness.report.wrong == ()
    replayed = gw.replay(witness.tape)
    made = [value for value in witness.tape.values if value.dtype == "int64" and value.id]
    for value in made:
        found = replayed.values.get(value.id)
        assert found is None or found.dtype == np.int64
    (row,) = witness.report.rows
    assert row.digits > 5


def value_of(dtype: str, array: Any = None) -> Value:
    return Value(0, () if array is None else array.shape, dtype, array)


@pytest.mark.parametrize(
    ("numbers", "dtype", "expected"),
    [
        ([-1.7, -0.2, 1.9], "int64", [-1, 0, 1]),
        ([0.0, 0.2, -3.0, np.nan], "bool", [False, True, True, True]),
        ([True, False], "float32", [1.0, 0.0]),
        ([300, -1], "uint8", [44, 255]),
    ],
)
def test_numbers_become_of_the_recorded_kind(
    numbers: list[Any], dtype: str, expected: list[Any]
) -> None:
    source = torch.tensor(numbers, dtype=torch.float64 if type(numbers[0]) is float else None)
    found = as_recorded(np.array(numbers), value_of(dtype))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(source.to(getattr(torch, dtype)).numpy(), expected)
    assert found.dtype == (np.float64 if dtype == "float32" else np.dtype(dtype))


def test_real_results_stay_as_they_are() -> None:
    result = Bounded(np.ones(2), Arithmetic.fused("float32"))
    assert as_recorded(result, value_of("bfloat16")) is result


@pytest.mark.parametrize(
    ("number", "error", "reason"),
    [
        (2.999, 0.01, "depends on rounding"),
        (0.5, 2.0, "depends on rounding"),
    ],
)
def test_what_makes_no_certain_whole_number_is_not_judged(
    number: float, error: float, reason: str
) -> None:
    result = Bounded(np.array([number]), Arithmetic.fused("float32"), np.array([error]))
    with pytest.raises(Unjudgeable, match=reason):
        as_recorded(result, value_of("int32"))


LOWEST, HIGHEST = -(2**31), 2**31 - 1


@pytest.mark.parametrize(
    ("number", "recorded", "expected"),
    [
        # Processors disagree on what an integer does not hold; each of their answers is right.
        (1e30, LOWEST, LOWEST),
        (1e30, HIGHEST, HIGHEST),
        (-np.inf, LOWEST, LOWEST),
        (np.nan, LOWEST, LOWEST),
        (np.nan, 0, 0),
        # Anything else is wrong.
        (1e30, 5, LOWEST),
        (np.nan, HIGHEST, LOWEST),
        # Nothing is recorded: one of the answers.
        (np.nan, None, LOWEST),
    ],
)
def test_what_an_integer_does_not_hold(number: float, recorded: int | None, expected: int) -> None:
    array = None if recorded is None else np.array([recorded], dtype=np.int32)
    assert as_recorded(np.array([number]), value_of("int32", array)).tolist() == [expected]


def test_rule_that_fails_says_how() -> None:
    def fails(x: Any) -> Any:
        return np.zeros(2)[x]

    with pytest.raises(Unjudgeable, match="the rule failed: IndexError: index 5 is out of bounds"):
        run("the rule", fails, 5)


def test_call_that_breaks_its_rule_is_not_judged_forward_nor_backward() -> None:
    # No index can be 7 in a table of 2 rows.
    numbers = (np.ones((2, 1)), np.array([7]), np.ones((1, 1)))
    kinds = ("float64", "int64", "float64")
    values = [
        Value(k, x.shape, kind, x) for k, (x, kind) in enumerate(zip(numbers, kinds, strict=True))
    ]
    arguments: dict[str, Argument] = {"weight": Ref(0), "indices": Ref(1)}
    call = Call(0, "aten.embedding.default", arguments, (2,))
    tape = Tape(tuple(values), (call,), (), ())
    assert find("aten.embedding") is not None
    with pytest.raises(Unjudgeable, match=r"the rule of aten\.embedding failed: Index"):
        evaluate(tape, call, recorded(tape), bounded=True)
    said = "the vjp of 'weight' in the rule of aten.embedding failed: ValueError: axis 0 index 7"
    with pytest.raises(Unjudgeable, match=said):
        vjp(tape, call, (np.ones((1, 1)),), recorded(tape), None, [True])
    (finding,) = gw.judge(tape).findings
    assert finding.comparison.verdict is gw.Verdict.INCONCLUSIVE
    assert gw.replay(tape).trusted[0].startswith("the rule of aten.embedding failed")


def test_operands_of_two_formats_send_gradients_that_are_rounded_to_their_own() -> None:
    x = torch.linspace(-1, 1, 12).to(torch.bfloat16).requires_grad_()
    with gw.watch() as witness:
        (x * torch.linspace(0.3, 0.7, 12)).sum().backward()  # type: ignore[no-untyped-call]
    assert witness.report.wrong == ()
    assert witness.report.rows[0].verdict is gw.Verdict.AGREES


def test_node_of_a_copying_view_belongs_to_its_call() -> None:
    x = torch.arange(9.0).reshape(3, 3).requires_grad_()
    with gw.watch() as witness:
        (torch.diag(x) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert witness.report.verdict is gw.Verdict.AGREES


def test_sums_of_nothing_are_added_like_others() -> None:
    # NumPy counts no places in whole numbers, whatever their weights are.
    nothing: Any = Bounded(np.zeros(0), Arithmetic.fused("float32"), np.zeros(0), np.zeros(0))
    sums: Any = np.bincount(np.zeros(0, dtype=np.int64), weights=nothing, minlength=3)
    both = sums + sums
    assert both.value.tolist() == [0, 0, 0]
    assert all(np.max(error, initial=0) < 1e-30 for error in both.errors if error is not None)
