"""SARIF: what the standard demands, at the line, and the same from run to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import gradwitness as gw
from experiment.invoke import cli
from gradwitness.report.findings import finding_records, from_root
from gradwitness.report.sarif import sarif
from gradwitness.verdict import Fault

PROGRAM = """
import torch

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

def step():
    x = torch.ones(3, requires_grad=True)
    Half.apply(Half.apply(x.exp() * 2)).sum().backward()

def right():
    torch.ones(3, requires_grad=True).sin().sum().backward()
"""
# What the standard (SARIF 2.1.0, sections 3.13 to 3.30) demands of what is written here.
TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
}
LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],  # code hosts show no other
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {
                        "uri": {"type": "string", "pattern": r"^(file:///)?[\w.~%/-]+$"},
                        "uriBaseId": {"const": "%SRCROOT%"},
                    },
                    "additionalProperties": False,
                },
                "region": {
                    "type": "object",
                    "required": ["startLine"],
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
        "logicalLocations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"fullyQualifiedName": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
RULE = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string", "pattern": "^[a-z0-9-]+$"}, "shortDescription": TEXT},
    "additionalProperties": False,
}
RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "level", "locations", "partialFingerprints"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": TEXT,
        "locations": {"type": "array", "maxItems": 1, "items": LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}
DRIVER = {
    "type": "object",
    "required": ["name", "rules"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "rules": {"type": "array", "uniqueItems": True, "items": RULE},
    },
    "additionalProperties": False,
}
RUN = {
    "type": "object",
    "required": ["tool", "results"],
    "properties": {
        "tool": {"type": "object", "required": ["driver"], "properties": {"driver": DRIVER}},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": RESULT},
    },
    "additionalProperties": False,
}
SARIF = Draft202012Validator(
    {
        "type": "object",
        "required": ["version", "runs"],
        "properties": {
            "$schema": {"type": "string"},
            "version": {"const": "2.1.0"},
            "runs": {"type": "array", "minItems": 1, "items": RUN},
        },
        "additionalProperties": False,
    }
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    (tmp_path / ".git").mkdir()
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "train.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path / "a b")
    return tmp_path


def results(path: Path) -> list[dict[str, Any]]:
    """Read a file, fail unless it is valid, and every result's rule is there."""
    read = json.loads(path.read_text())
    SARIF.validate(read)
    (run,) = read["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    assert all(rules[each["ruleIndex"]] == each["ruleId"] for each in run["results"])
    prints = [each["partialFingerprints"]["gradwitness/v1"] for each in run["results"]]
    assert len(set(prints)) == len(prints)
    return list(run["results"])


def test_a_check_from_a_folder_of_the_repository(checkout: Path) -> None:
    assert cli("check", "train.py:step", "--sarif", "w.sarif.json").code == 1
    found = results(Path("w.sarif.json"))
    assert [each["ruleId"] for each in found] == ["wrong-backward"] * 2
    assert {each["level"] for each in found} == {"error"}
    for each in found:
        place = each["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "a%20b/train.py", "uriBaseId": "%SRCROOT%"}
        assert "Half" in each["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
        assert PROGRAM.splitlines()[place["region"]["startLine"] - 1].startswith("        return")
    # Another run, other lines, another folder to start from: the same findings.
    Path("train.py").write_text("\n\n" + PROGRAM)
    assert cli("check", "train.py:step", "--save", "v.sarif").code == 1
    again = results(Path("v.sarif"))
    key = "partialFingerprints"
    assert [each[key] for each in again] == [each[key] for each in found]


def test_what_agrees_and_what_is_claimed(checkout: Path) -> None:
    assert cli("check", "train.py:right", "--sarif", "r.sarif").code == 0
    assert results(Path("r.sarif")) == []
    Path("c.json").write_text('{"x": [1.0, 2.0, 3.0]}')
    assert cli("check", "train.py:right", "--claims", "c.json", "--sarif", "c.sarif").code == 1
    (claim, *_) = results(Path("c.sarif"))
    # A claim has no line: it is about the program as a whole.
    assert claim["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b/train.py", "uriBaseId": "%SRCROOT%"}
    }


def test_hostile_names_are_data(tmp_path: Path) -> None:
    names = ["\x1b]0;x", "\udcff", "a#b?c:d.py", "../" * 9 + "x", "\0", "x" * 10_000, "%2e%2e"]
    faults = [Fault(gw.Verdict.DISAGREES, n, n, f"{n}:7", n, n, n, n) for n in names]
    faults += [Fault(gw.Verdict.INCONCLUSIVE, "t", "", line) for line in ("", ":3", "f.py:", "x")]
    written = json.loads(json.dumps(sarif({"findings": finding_records(faults), "target": "p:f"})))
    SARIF.validate(written)
    assert len(written["runs"][0]["results"]) == len(faults)


def test_braces_are_no_places_for_arguments() -> None:
    """SARIF 2.1.0, section 3.11.5: in a message they are doubled."""
    records = finding_records([Fault(gw.Verdict.DISAGREES, "{0}", "a {b} {{1}}", "x.py:7")])
    ((result,),) = (run["results"] for run in sarif({"findings": records})["runs"])
    assert result["message"]["text"] == "{{0}}\na {{b}} {{{{1}}}}"


def test_no_line_of_a_text_is_wrapped(checkout: Path) -> None:
    Path("train.py").write_text(PROGRAM.replace("Half", "Half" * 40))
    assert cli("check", "train.py:step", "--sarif", "w.sarif").code == 1
    for each in results(Path("w.sarif")):
        title, said, *_ = each["message"]["text"].splitlines()
        assert said == f"DISAGREES  backward: {title}"


def test_the_root_of_the_repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_root("train.py") == "a b/train.py"
    assert from_root(f"{checkout}/x.py") == "x.py"
    assert from_root("/elsewhere/x.py") == "/elsewhere/x.py"
    # A code host knows no "..".
    assert from_root("../x.py") == "x.py"
    assert from_root("../../x.py") == f"{checkout.parent.as_posix()}/x.py"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(checkout / "a b"))
    assert from_root("train.py") == "train.py"


def test_a_file_that_cannot_be_written(checkout: Path) -> None:
    result = cli("check", "train.py:right", "--sarif", "absent/w.sarif", "--json")
    assert result.code == json.loads(result.out)["exit_code"] == 2
    assert "absent" in json.loads(result.out)["error"]["message"]
