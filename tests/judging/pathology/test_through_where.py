"""NaN that is 0 times infinity, behind a step that does not select the element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from gradwitness.engine.masked_elements import THROUGH_WHERE
from judging.pathology.watching import at, kinds, leaf, notes_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 5.0])


def where_of_root(x: Any) -> Any:
    y = torch.sqrt(x)
    return (torch.where(x > 0, y, 0.0) * WEIGHTS).sum()


def otherwise_of_root(x: Any) -> Any:
    y = torch.sqrt(x)
    return (torch.where(x <= 0, 0.0, y) * WEIGHTS).sum()


def filled_root(x: Any) -> Any:
    y = torch.sqrt(x)
    return (y.exp().masked_fill(x <= 0, 0) * WEIGHTS).sum()


def root_times_mask(x: Any) -> Any:
    y = torch.sqrt(x)
    return (y * (x > 0) * WEIGHTS).sum()


def root_selected_too_late(x: Any) -> Any:
    y = torch.sqrt(x)
    return y.view(2, 2).t()[x.view(2, 2).t() > 0].sum()


def slice_of_root(x: Any) -> Any:
    y = torch.sqrt(x)
    return y[1:].sum()


def mean_of_roots(x: Any) -> Any:
    y = torch.sqrt(x.view(4, 1) * torch.ones(4, 3))
    return torch.where(x > 0, y.mean(1), 0.0).sum()


def quotient(x: Any) -> Any:
    y = x.sin() / x
    return torch.where(x != 0, y, 1.0).sum()


def root_of_negative(x: Any) -> Any:
    y = torch.sqrt(x - 0.5)
    return (torch.where(x > 0.5, y, 0.0) * WEIGHTS).sum()


def overflow(x: Any) -> Any:
    y = torch.exp(100 * (1 - x))
    return (torch.where(x > 0.5, y, 0.0) * WEIGHTS).sum()


@pytest.mark.parametrize(
    ("function", "born", "guard"),
    [
        (where_of_root, "SqrtBackward0", "aten.where.self"),
        (otherwise_of_root, "SqrtBackward0", "aten.where.self"),
        (filled_root, "SqrtBackward0", "aten.masked_fill.Scalar"),
        (root_times_mask, "SqrtBackward0", "aten.mul.Tensor"),
        (root_selected_too_late, "SqrtBackward0", "aten.index.Tensor"),
        (slice_of_root, "SqrtBackward0", "aten.slice.Tensor"),
        (mean_of_roots, "SqrtBackward0", "aten.where.self"),
        (root_of_negative, "SqrtBackward0", "aten.where.self"),
        (overflow, "ExpBackward0", "aten.where.self"),
    ],
)
def test_it_is_named_with_both_places(
    function: Callable[[Any], Any], born: str, guard: str, snapshot: SnapshotAssertion
) -> None:
    notes = notes_of(function, leaf(0, 1, 2, 3))
    (note,) = [note for note in notes if note.kind == THROUGH_WHERE]
    assert note.text.startswith(f"{born} #")
    count = "3 of 12" if function is mean_of_roots else "1 of 4"
    assert f", {count}, first at [0" in note.text
    assert at(note, function, "y = ")
    # The guard is on the next line.
    line = function.__code__.co_firstlineno + 2
    assert f"{guard} (call " in note.text
    assert f"test_through_where.py:{line})" in note.text
    assert plain(note.text) == snapshot


def test_a_quotient_is_told_as_well() -> None:
    # sin(x) / x has NaN in the forward pass too, which is noted there.
    notes = notes_of(quotient, leaf(0, 1, 2, 3))
    assert kinds(notes) == ["NaN born", THROUGH_WHERE]
    assert "DivBackward0 #" in notes[1].text


@pytest.mark.parametrize(
    "function",
    [
        # Another step causes the zeros.
        lambda x: (torch.relu(torch.sqrt(x) - 1) * WEIGHTS).sum(),
        # The elements not selected are not those with NaN.
        lambda x: torch.where(x < 3, torch.relu(torch.sqrt(x) - 1), 0.0).sum(),
        # 0/0 for selected elements as well.
        lambda x: torch.where(x < 3, (x * 0) / (x * 0), 0.0).sum(),
    ],
)
def test_other_nan_is_not_called_so(function: Callable[[Any], Any]) -> None:
    assert THROUGH_WHERE not in kinds(notes_of(function, leaf(0, 1, 2, 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0.0).sum(),
        lambda x: torch.sqrt(x[x > 0]).sum(),
        lambda x: torch.where(x > 0, torch.sqrt(x + 1), 0.0).sum(),
    ],
)
def test_what_is_safe_is_left_in_peace(function: Callable[[Any], Any]) -> None:
    assert notes_of(function, leaf(0, 1, 2, 3)) == ()


def test_several_steps_are_one_note() -> None:
    x = leaf(0, 1, 2, 3)
    with gw.watch(names={"x": x}) as witness:
        for _ in range(3):
            x.grad = None
            where_of_root(x).backward()
    assert kinds(witness.report.notes) == [THROUGH_WHERE]
