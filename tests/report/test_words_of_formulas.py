"""Words of formulas that are neither mathematics nor the program's names are told."""

from __future__ import annotations

import pytest

from gradwitness.report.tables.rules_text import set_of_rules
from gradwitness.report.words import SENTENCES, explained


def test_every_word_that_is_told_is_one_of_a_rule_or_a_name() -> None:
    texts = [t for r in set_of_rules() for t in (r.text, *(g.text for g in r.gradients.values()))]
    names = ["W1", "x2", "c3", "p4", "2 / n * g"]
    assert set(explained(texts + names)) == SENTENCES
    assert len(explained(names)) == len(names)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("dx3 = 2 / n * (x3 - c10) * g", ["x and a number", "c and a number", "n"]),
        ("dW1^T = x5^T g", ["W, b", "x and a number"]),
        ("y = repeat(g, x)", ["repeat(g, x)"]),
        # Neither parts of other words nor names without a call.
        ("y = part_count(sin, net.c1) + repeat", []),
    ],
)
def test_what_is_told_is_what_is_there(formula: str, said: list[str]) -> None:
    assert [sentence.partition(":")[0] for sentence in explained([formula])] == said
