"""Looks at some of the rows that an index lists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import CLOSE, SAMPLED
from gradwitness.judging.finding import Step
from judging.looks.test_fast import detected, found, value_of
from judging.looks.test_shares import piece_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Tape

INDEX: dict[str, Callable[[torch.Tensor], Any]] = {
    "rows": lambda n: n,
    "from the end": lambda n: n - 2048,
    "a table of rows": lambda n: n.reshape(64, -1),
    "and all columns": lambda n: (n, None),
}


def passed(index: Callable[[torch.Tensor], Any] = INDEX["rows"], nodes: int = 2048) -> Tape:
    """Sums, for each node, of what it gets from others: the last edge lists the first node."""
    torch.manual_seed(0)
    ends = torch.randint(1, nodes, (2, 8192)) % nodes
    ends[:, -1] = 0
    x = torch.randn(nodes, 48, requires_grad=True)
    with record() as recorder:
        picked = torch.ops.aten.index(x, [*as_list(index(ends[0]))])
        sent = (picked.reshape(-1, 48) * torch.randn(8192, 48)).sin()
        y = torch.zeros_like(x).index_add(0, ends[1], sent)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    return recorder.tape


def as_list(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def listing(tape: Tape) -> dict[str, Finding]:
    """Return what a fast judgement says of the steps that list rows, by how titles begin."""
    report = gw.judge(tape, depth="fast")
    assert report.verdict is gw.Verdict.AGREES
    kinds = Step.FORWARD, Step.BACKWARD
    names = "aten.index_add", "IndexBackward", "IndexAddBackward"
    steps = [f for f in report.findings if f.step in kinds]
    return {n: f for n in names for f in steps if f.title.startswith(n)}


@pytest.mark.parametrize("kind", INDEX)
def test_some_rows_stand_for_all(kind: str) -> None:
    looked = listing(passed(INDEX[kind]))
    assert len(looked) == 3
    assert {f.comparison.reason for f in looked.values()} == {SAMPLED}
    assert all(0 < f.comparison.share < 1 / 20 for f in looked.values())


@pytest.mark.parametrize("piece", ["everywhere", "first", "last", "far beyond"])
def test_faults_are_found_where_a_look_falls(piece: str) -> None:
    tape = passed()
    for title, finding in listing(tape).items():
        array: Any = tape.values[value_of(tape, finding)].array
        wrong = array.copy()
        size = 1e4 if piece == "far beyond" else 1.05 * finding.comparison.detects
        part = piece_of(wrong, piece)
        part += np.float32(size)
        assert not 0 < detected(tape, finding, wrong) <= finding.comparison.detects, title
        assert found(tape, finding, wrong, math.inf), title


def test_a_term_left_out_of_each_sum_is_found() -> None:
    tape = passed()
    looked = listing(tape)
    (call,) = (c for c in tape.calls if c.base_op == "aten.index_add")
    index, source = (tape.values[n].array for n in call.operands[1:])
    assert index is not None
    assert source is not None
    # The last that is listed for a row is written last.
    last = np.zeros((2048, 48), np.float32)
    last[index] = source
    array: Any = tape.values[value_of(tape, looked["aten.index_add"])].array
    assert found(tape, looked["aten.index_add"], array - last)


def test_no_row_of_a_small_table_is_left_out() -> None:
    looked = listing(passed(nodes=8))
    assert looked["IndexBackward"].comparison.share == 1
    assert looked["IndexBackward"].comparison.reason == CLOSE


def test_masks_and_columns_are_looked_at_whole() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 512, requires_grad=True)
    with record() as recorder:
        y = x[:, torch.randint(0, 512, (600,))] * 1.5
        z = x[torch.rand(512) < 0.5].exp()
        torch.autograd.backward((y * torch.randn_like(y)).sum() + z.sum())
    looked = [
        f
        for f in gw.judge(recorder.tape, depth="fast").findings
        if f.title.startswith("IndexBackward") and f.step is Step.BACKWARD
    ]
    assert [f.verdict for f in looked] == [gw.Verdict.AGREES] * 2
    assert {f.comparison.share for f in looked} == {1.0}
