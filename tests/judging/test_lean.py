"""Records made lean are those that their constructors make."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from gradwitness.judging.comparison import Comparison
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.lean import altered, lean
from gradwitness.verdict import Verdict

CLOSE = Comparison(Verdict.AGREES, "", 6, detects=0.5, norm=2.0, distance=1.0)


def test_fields_that_are_left_out_have_their_defaults() -> None:
    made = lean(
        Comparison,
        verdict=Verdict.AGREES,
        reason="",
        size=6,
        detects=0.5,
        norm=2.0,
        distance=1.0,
    )
    assert repr(made) == repr(CLOSE)
    assert (made.missed, made.share, made.near) == (0.0, 1.0, 0.0)
    assert repr(replace(made, size=7)) == repr(replace(CLOSE, size=7))


def test_they_are_as_frozen() -> None:
    finding = lean(Finding, step=Step.FORWARD, title="aten.add (call 1)", comparison=CLOSE)
    assert finding == Finding(Step.FORWARD, "aten.add (call 1)", CLOSE)
    with pytest.raises(FrozenInstanceError):
        finding.title = "another"  # type: ignore[misc]


def test_an_altered_record_is_another_and_of_the_same_kind() -> None:
    finding = Finding(Step.FORWARD, "aten.add (call 1)", CLOSE, call=1)
    assert altered(finding, node=3) == replace(finding, node=3)
    assert finding.node is None
    assert finding.at_node(3) == replace(finding, node=3)
    assert finding.at_node(None) is finding
