"""The table of rules as text."""

from __future__ import annotations

import pytest

from gradwitness import InputError
from gradwitness.report.console import as_text
from gradwitness.report.tables.rules_text import rule_text, rules_table, set_of_rules
from gradwitness.rules import table, terms


def test_the_table_has_a_line_for_every_rule_and_term() -> None:
    text = as_text(rules_table())
    assert text.splitlines()[0].split() == ["operation", "formula", "autograd", "node"]
    starts = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
    for rule in set_of_rules():
        assert starts.count(rule.name) == 1, rule.name
    for term in terms():
        assert term.name in text
    assert len(set_of_rules()) == len({rule.name for rule in table().values()})


def test_all_that_is_known_of_a_rule() -> None:
    lines = as_text(rule_text("aten.addmm")).splitlines()
    assert lines[:5] == [
        "aten.addmm",
        "value       y = alpha * (A @ B) + beta * b",
        "gradient    db = beta * g",
        "gradient    dA = alpha * (g @ B.T)",
        "gradient    dB = alpha * (A.T @ g)",
    ]
    assert lines[-1] == "where g is the gradient that arrives, y the result"


def test_aliases_are_named_and_found() -> None:
    assert "also        aten._unsafe_view" in as_text(rule_text("aten.view"))
    assert as_text(rule_text("_unsafe_view")) == as_text(rule_text("view"))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("addmm", "aten.addmm"),
        ("ADDMM", "aten.addmm"),
        ("aten.addmm.default", "aten.addmm"),
        ("AddmmBackward0", "aten.addmm"),
        ("addmmbackward0", "aten.addmm"),
        ("TBackward0", "aten.t"),
        ("CopyBackwards", "aten.copy"),
    ],
)
def test_every_way_to_name_it(name: str, rule: str) -> None:
    assert as_text(rule_text(name)).splitlines()[0] == rule


@pytest.mark.parametrize("name", ["AccumulateGrad", "accumulategrad", "CopySlices"])
def test_a_node_without_a_rule(name: str) -> None:
    text = as_text(rule_text(name)).lower().replace("\n", " ")
    assert text.startswith(name.lower() + " ")


def test_an_unknown_name() -> None:
    with pytest.raises(
        InputError, match=r"no rule for 'addmmm'; did you mean .*aten\.addmm.*; `gr"
    ):
        rule_text("addmmm")
    with pytest.raises(InputError, match=r"did you mean aten\._softmax, SoftmaxBackward;"):
        rule_text("softmax")
    with pytest.raises(InputError, match="there is no rule for 'qqqq'; `gradwitness rules` lists"):
        rule_text("qqqq")
