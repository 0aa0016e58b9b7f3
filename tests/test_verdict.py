from __future__ import annotations

import itertools

import pytest

from gradwitness.verdict import Verdict, worst

A, D, I = Verdict.AGREES, Verdict.DISAGREES, Verdict.INCONCLUSIVE  # noqa: E741


def test_exit_codes() -> None:
    # 2 is for errors of usage and input.
    assert {verdict: verdict.exit_code for verdict in Verdict} == {A: 0, D: 1, I: 3}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], I),
        ([A], A),
        ([A, A], A),
        ([I], I),
        ([A, I], I),
        ([A, D], D),
        ([I, D], D),
        ([A, I, D, A], D),
    ],
)
def test_the_worst_verdict(verdicts: list[Verdict], expected: Verdict) -> None:
    assert {worst(list(order)) for order in itertools.permutations(verdicts)} == {expected}
