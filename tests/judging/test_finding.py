"""Counting findings: what was judged, of how much, and the worst of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import gradwitness as gw
from capture.handmade import tape
from gradwitness.judging.comparing.compare import mismatch, unjudged
from gradwitness.judging.finding import Coverage, Finding, Report, Step
from gradwitness.verdict import worst

AGREES, DISAGREES, INCONCLUSIVE = gw.Verdict


def finding(
    verdict: gw.Verdict, step: Step = Step.FORWARD, call: int = 0, input_nr: int = 0
) -> Finding:
    comparisons = {
        AGREES: replace(unjudged(""), verdict=AGREES, size=10),
        DISAGREES: replace(mismatch("wrong", None), size=10),
        INCONCLUSIVE: replace(unjudged("no rule for aten.mystery"), size=4),
    }
    forward = step is Step.FORWARD
    return Finding(
        step,
        f"{step.value} {call}.{input_nr}",
        comparisons[verdict],
        call=call if forward else None,
        node=None if forward else call,
        sweep=None if forward else 0,
        tensor_nr=input_nr,
    )


def test_the_names_and_codes_of_the_verdicts() -> None:
    assert {v.value: v.exit_code for v in gw.Verdict} == {
        "AGREES": 0,
        "DISAGREES": 1,
        "INCONCLUSIVE": 3,
    }


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], INCONCLUSIVE),
        ([AGREES], AGREES),
        ([AGREES, INCONCLUSIVE, AGREES], INCONCLUSIVE),
        ([INCONCLUSIVE, DISAGREES, AGREES], DISAGREES),
    ],
)
def test_the_worst_verdict(verdicts: list[gw.Verdict], expected: gw.Verdict) -> None:
    assert worst(verdicts) is expected
    assert worst(verdicts[::-1]) is expected


def test_agreement_of_all_steps_is_nothing_without_a_gradient() -> None:
    assert Report((finding(AGREES),), ()).verdict is INCONCLUSIVE
    assert Report((), ()).verdict is INCONCLUSIVE


def test_a_wrong_step_counts_even_if_no_gradient_inherits_it() -> None:
    rows = gw.judge(tape()).rows
    assert Report((finding(AGREES),), rows).verdict is AGREES
    assert Report((finding(DISAGREES),), rows).verdict is DISAGREES
    assert Report((finding(INCONCLUSIVE),), rows).verdict is INCONCLUSIVE


def test_a_call_is_judged_if_all_of_its_results_are() -> None:
    findings = (
        finding(AGREES, call=0, input_nr=0),
        finding(INCONCLUSIVE, call=0, input_nr=1),
        finding(AGREES, call=0, input_nr=2),
        finding(DISAGREES, call=1),
        finding(AGREES, Step.BACKWARD, call=0),
        finding(AGREES, Step.FAN_IN, call=0),
    )
    report = Report(findings, ())
    assert report.coverage() == {
        # A call that disagrees has been judged.
        "forward calls": Coverage(1, 2),
        "backward nodes": Coverage(1, 1),
        "gradients": Coverage(0, 0),
        "elements": Coverage(50, 54),
    }


def test_a_doubt_about_the_whole_is_no_step_and_no_call() -> None:
    whole = Finding(Step.FORWARD, "the step", finding(INCONCLUSIVE).comparison)
    report = Report((finding(AGREES, call=0), whole), ())
    assert (report.count(INCONCLUSIVE), report.count(INCONCLUSIVE, Step.FORWARD)) == (1, 0)
    assert report.coverage()["forward calls"] == Coverage(1, 1)
    assert report.verdict is INCONCLUSIVE
    assert dict(report.reasons()) == {"no rule for aten.mystery": 1}


def test_faults_are_listed_in_order_and_counted_by_step() -> None:
    findings = (
        finding(AGREES),
        finding(DISAGREES, call=1),
        finding(DISAGREES, Step.BACKWARD, call=5),
        finding(INCONCLUSIVE, Step.BACKWARD, call=6),
        finding(INCONCLUSIVE, Step.ACCUMULATE, call=7),
    )
    report = Report(findings, ())
    assert [f.title for f in report.wrong] == ["forward 1.0", "backward 5.0"]
    assert report.first_wrong is findings[1]
    assert report.count(DISAGREES) == 2
    assert report.count(DISAGREES, Step.BACKWARD) == 1
    assert report.count(AGREES, Step.BACKWARD) == 0
    assert dict(report.reasons()) == {"no rule for aten.mystery": 2}
    assert Report((), ()).first_wrong is None


def test_a_finding_that_gets_its_node_stays_as_it_is_otherwise() -> None:
    doubt = unjudged("no rule for aten.mystery")
    found = Finding(Step.FORWARD, "aten.mystery (call 1)", doubt, call=1, formula="y = a")
    placed = found.at_node(3)
    assert repr(placed) == repr(replace(found, node=3))
    assert found.node is None
    assert placed.at_node(3) is placed
