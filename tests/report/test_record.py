"""The judgement as JSON: its fields, its numbers, infinity and NaN."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import gradwitness as gw
from capture.handmade import WRONG, tape
from gradwitness import experiment
from gradwitness.report.record import dumps, outcome_record, report_record

FIGURES = {
    "size",
    "refuted",
    "index",
    "recorded",
    "expected",
    "error",
    "bound",
    "ratio",
    "probable_ratio",
    "ulps",
    "detects",
    "detects_relative",
    "tolerance",
    "share",
    "missed",
    "probable_detects",
    "distance",
    "near",
    "surely_off",
    "norm",
    "relative_error",
    "right_digits",
}


def strict(text: str) -> Any:
    """Read strict JSON, without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_the_fields_of_the_schema() -> None:
    record = strict(dumps(report_record(gw.judge(tape()), tape())))
    assert set(record) == {
        "schema",
        "version",
        "verdict",
        "exit_code",
        "required_digits",
        "judge",
        "depth",
        "forward_verdict",
        "gradients_verdict",
        "coverage",
        "first_wrong",
        "findings",
        "gradients",
        "notes",
        "steps",
    }
    assert (record["schema"], record["version"]) == ("gradwitness-comparison", 1)
    row_fields = {"name", "shape", "dtype", "pass", "verdict", "inherited", "reason", "digits"}
    assert all(set(row) == row_fields | FIGURES for row in record["gradients"])
    step_fields = {
        "step", "title", "verdict", "reason", "call", "node", "pass", "module", "line", "rule",
        "grade", "advice", "symbol", "wrong_at", "called", "cause", "why", "runner_up", "remedy",
        "fuzz",
    }  # fmt: skip
    assert all(set(step) == step_fields | FIGURES for step in record["steps"])
    assert record["coverage"]["forward calls"] == {"judged": 7, "total": 7}
    assert [row["name"] for row in record["gradients"]] == ["x", "w", "b"]
    assert len(record["steps"]) == 30


def test_a_fault_in_figures() -> None:
    wrong = tape("d6.1", 2)
    record = strict(dumps(report_record(gw.judge(wrong), wrong)))
    assert (record["verdict"], record["exit_code"]) == ("DISAGREES", 1)
    assert record["first_wrong"] == "MulBackward0 #6, gradient of b"
    (step,) = [s for s in record["steps"] if s["verdict"] == "DISAGREES"]
    # dw[2] is x[2] g[2] = 3 * 7.
    assert (step["recorded"], step["expected"], step["error"]) == (21 + WRONG, 21, WRONG)
    assert (step["index"], step["refuted"], step["size"]) == ([2], 1, 3)
    assert (step["node"], step["pass"], step["line"], step["module"]) == (6, 0, "net.py:1", "net")
    assert step["rule"] == "db = g * a"


def test_an_outcome_has_the_run_beside_the_judgement() -> None:
    outcome = experiment.run(experiment.preset("sigmoid", seed=2))
    record = strict(dumps(outcome_record(outcome)))
    assert report_record(outcome.report, outcome.tape).keys() < record.keys()
    assert record["config"]["seed"] == 2
    assert record["config"]["width"] == 10
    assert record["again"] == outcome.config.command()
    assert record["about"]["torch"] == outcome.tape.about["torch"]
    assert record["forward"]["loss"]["torch"] == [float(outcome.torch_side["loss"][0])]
    assert record["forward"]["loss"]["witness"] == [float(outcome.witness_side["loss"][0])]
    assert record["data"]["x"] == outcome.data["x"].tolist()


@pytest.mark.parametrize(
    ("number", "text"), [(math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan")]
)
def test_what_json_has_no_number_for(number: float, text: str) -> None:
    assert strict(dumps({"a": [1.5, (number,)]})) == {"a": [1.5, [text]]}


def test_text_ends_with_a_line_and_is_plain() -> None:
    text = dumps({"verdict": gw.Verdict.AGREES, "n": None})
    assert text.endswith("}\n")
    assert strict(text) == {"verdict": "AGREES", "n": None}
