"""Every record is what the published schema says, and the schema knows every field of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

import gradwitness as gw
from capture.programs import run_back
from experiment.invoke import cli
from gradwitness.report.record import schema_text

EXAMPLES = Path(__file__).parents[2] / "examples"
SWISH = EXAMPLES / "swish.py"
# What others are made of: they may have more fields.
BASES = ("head", "figures")
PROGRAM = """
import torch

def complex_numbers():
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    (z * z.conj()).real.sum().backward()

def infinite():
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    x.sqrt().sum().backward()

def notes():
    layer = torch.nn.Linear(2, 1)
    layer(torch.ones(1, 2)).detach().requires_grad_().sum().backward()

def nothing():
    pass

def fails():
    complex_numbers()
    raise ValueError("its own")
"""


def closed() -> Draft202012Validator:
    """Return the schema, without leave for fields that it does not name."""
    schema = json.loads(schema_text())

    def close(part: Any) -> None:
        for inner in part.values() if isinstance(part, dict) else part:
            if isinstance(inner, dict | list):
                close(inner)
        if isinstance(part, dict) and part.get("type") == "object" and "properties" in part:
            part["unevaluatedProperties"] = False

    close({name: part for name, part in schema["$defs"].items() if name not in BASES})
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


CLOSED = closed()


def valid(text: str) -> Any:
    """Read a record; fail unless it is strict JSON and what the schema says."""
    record = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    # Against its own kind first: that says what is wrong.
    kind = record["schema"].removeprefix("gradwitness-")
    own = {"$defs": CLOSED.schema["$defs"], "$ref": f"#/$defs/{kind}"}
    error = best_match(CLOSED.evolve(schema=own).iter_errors(record))
    assert error is None, f"{error.json_path}: {error.message[:500]}"
    CLOSED.validate(record)
    return record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(PROGRAM)
    (tmp_path / "a.json").write_text('{"w": [1.0, 2.0], "b": [3.0]}')
    (tmp_path / "b.json").write_text('{"w": [-1.0, -2.0], "b": [3.5], "c": [1.0]}')
    weights = {"0.weight": np.array([[1.0, 2.0]]), "2.weight": np.array([[3.0]])}
    wrong = {"0.weight": np.array([[2.0, 2.0]]), "2.weight": np.array([[1.0]])}
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **weights)
    np.savez(tmp_path / "wrong.npz", allow_pickle=False, **wrong)
    x = torch.ones(3, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        run_back((x * x).sum())
    witness.save(tmp_path / "w.json")
    worse = (tmp_path / "w.json").read_text().replace("AGREES", "DISAGREES")
    (tmp_path / "worse.json").write_text(worse)
    gone = json.loads((tmp_path / "w.json").read_text()) | {"gradients": []}
    (tmp_path / "gone.json").write_text(json.dumps(gone))
    return tmp_path


COMMANDS = [
    ("run --preset sigmoid --out out", "comparison", 0),
    ("run --preset sigmoid --seeds 2", "seeds", 0),
    (f"check {SWISH}:step", "comparison", 1),
    (f"check {SWISH}:step --probe", "comparison", 1),
    (f"check {SWISH}:step --probe --digits 1", "comparison", 1),
    (f"check {SWISH}:step --claims b.json", "claims", 1),
    (f"check {SWISH}:step --claims b.json --probe", "claims", 1),
    ("check p.py:complex_numbers", "comparison", 0),
    ("check p.py:infinite", "comparison", 0),
    ("check p.py:notes", "comparison", 0),
    ("check p.py:nothing", "comparison", 3),
    ("check p.py:fails", "comparison", 2),
    ("diff a.json b.json", "claims", 1),
    ("diff a.json a.json", "claims", 0),
    ("laws wrong.npz --weights weights.npz --layers LAYERS", "laws", 1),
    (f"grade {EXAMPLES}/grade/task.toml {EXAMPLES}/grade/right.py", "marks", 0),
    (f"grade {EXAMPLES}/grade/task.toml b.json --answers", "marks", 1),
    ("compare w.json w.json", "compared", 0),
    ("compare w.json worse.json", "compared", 1),
    ("compare w.json gone.json", "compared", 3),
    ("diff a.json absent", "error", 2),
    ("check", "error", 2),
    ("graph --preset sigmoid", "error", 2),
    ("nope", "error", 2),
]


@pytest.mark.parametrize(("words", "of", "code"), COMMANDS)
def test_what_commands_print(words: str, of: str, code: int, folder: Path) -> None:
    layers = "linear:0 relu linear:2"
    result = cli(*(layers if word == "LAYERS" else word for word in words.split()), "--json")
    record = valid(result.out)
    assert (record["schema"], record["exit_code"]) == (f"gradwitness-{of}", code)
    assert result.code == code
    severities = {finding["severity"] for finding in record["findings"]}
    assert ("error" in severities) is (code == 1)
    assert ("error" in record) is (code == 2)
    assert code != 3 or severities or not record["gradients"]


def test_what_is_saved(folder: Path) -> None:
    assert valid((folder / "w.json").read_text())["findings"] == []
    gw.diff(folder / "a.json", folder / "b.json").save(folder / "d.json")
    assert valid((folder / "d.json").read_text())["findings"]
    assert cli("check", f"{SWISH}:step", "--probe", "--save", "p.json").code == 1
    assert "probe" in valid((folder / "p.json").read_text())


def test_a_finding_says_all_there_is_to_say(folder: Path) -> None:
    (found,) = valid(cli("check", f"{SWISH}:step", "--json").out)["findings"]
    code = SWISH.read_text().splitlines()
    assert Path(found["file"]).name == "swish.py"
    assert "sigmoid" in code[found["line"] - 1]
    assert (found["kind"], found["severity"]) == ("wrong backward", "error")
    assert found["symbol"] == "Swish.backward"
    # The slope of x s(x) is s + x s (1 - s): its second term is missing.
    assert "x * torch.sigmoid(x) * (1 - torch.sigmoid(x))" in found["remedy"]
    assert found["cause"]
    assert found["numbers"]["refuted"] == found["numbers"]["size"] == 128
    # From run to run, and wherever the line moves, it is the same finding.
    moved = folder / SWISH.name
    prints = []
    for lines in ("", "\n\n\n"):
        moved.write_text(lines + SWISH.read_text())
        (again,) = valid(cli("check", f"{moved}:step", "--json").out)["findings"]
        prints.append((again["fingerprint"], again["line"] - len(lines)))
    assert prints[0] == prints[1]


def test_the_command_prints_the_schema() -> None:
    result = cli("schema")
    assert (result.code, result.out) == (0, schema_text())
    assert Draft202012Validator.META_SCHEMA["$id"] == json.loads(result.out)["$schema"]


def test_a_field_that_the_schema_does_not_name_is_found() -> None:
    record = json.loads(cli("check", "--json").out)
    assert not list(CLOSED.iter_errors(record))
    for strange in ({"more": 1}, {"version": 2}, {"exit_code": "2"}, {"schema": "x"}):
        assert list(CLOSED.iter_errors(record | strange))
    assert list(CLOSED.iter_errors({k: v for k, v in record.items() if k != "findings"}))
