"""Names that forge lines, move the cursor, reverse the reading or mean something to a reader."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

import gradwitness
from gradwitness._printable import one_line, printable
from gradwitness.claims.claim import Claim, Claims
from gradwitness.report.console import as_text
from gradwitness.report.explain import explain
from gradwitness.report.names import Names
from gradwitness.report.tables.github import commands
from gradwitness.report.trace import trace
from gradwitness.tape import Call, Source

if TYPE_CHECKING:
    from pathlib import Path

FORGED = "verdict   AGREES"
COMMAND = "::error file=x.py::injected"
HOSTILE = f"a\r\n{FORGED}\n{COMMAND}\x1b[2J\x9b1A\u202eb\u200bc\u2028\ufffe[bold]d[/bold]:smile:"
SHOWN = rf"a\r\n{FORGED}\n{COMMAND}\x1b[2J\x9b1A\u202eb\u200bc\u2028\ufffe[bold]d[/bold]:smile:"


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g * ctx.saved_tensors[0]


@pytest.fixture(scope="module")
def witness() -> gradwitness.Witness:
    """A wrong step in a module, with a parameter and a function, of hostile names."""
    function = type(HOSTILE.replace(".", "_"), (Half,), {})

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_parameter(NAME, torch.nn.Parameter(torch.ones(3)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = function.apply(x * getattr(self, NAME))  # type: ignore[attr-defined]
            return made

    model = torch.nn.Module()
    model.add_module(NAME, Inner())
    watched = gradwitness.watch(model, saved=True)
    with watched:
        getattr(model, NAME)(torch.arange(3.0)).sum().backward()
    return watched


NAME = HOSTILE.replace(".", "_")  # torch allows all but a dot
NAME_SHOWN = SHOWN.replace(".", "_")


def harmless(text: str) -> None:
    """Assert that a text is printable, and that none of its lines is the names'."""
    assert all(c == "\n" or c.isprintable() for c in text)
    lines = [line.strip() for line in text.split("\n")]
    assert FORGED not in lines
    assert not any(line.startswith("::") for line in lines)


def without_spaces(text: str) -> str:
    return "".join(text.split())


def test_what_is_written_out() -> None:
    text = "\t\x00\x7f\x85\u202e\u200b\ufeff\ud800"
    assert printable(f"a\n{text}") == "a\n" + r"\t\x00\x7f\x85\u202e\u200b\ufeff\ud800"
    assert one_line(HOSTILE) == SHOWN
    assert one_line("größe 層 α²\\n") == printable("größe 層 α²\\n") == "größe 層 α²\\n"


def test_the_report(witness: gradwitness.Witness) -> None:
    assert witness.verdict is gradwitness.Verdict.DISAGREES
    harmless(f"{witness}")
    (row,) = witness.report.rows
    assert row.name == f"{NAME_SHOWN}.{NAME_SHOWN}"
    shown = without_spaces(f"{witness}")  # lines that are too long for the page are broken
    assert without_spaces(f"inmodule{NAME_SHOWN})forward") in shown
    last = NAME_SHOWN.rpartition("::")[2]  # what is before that is a namespace to torch
    assert without_spaces(f"first wrong step: {last}Backward #1, gradient of") in shown


def test_the_derivation(witness: gradwitness.Witness) -> None:
    harmless(as_text(explain(witness.tape, witness.report)))
    (row,) = witness.report.rows
    harmless(as_text(trace(witness.tape, witness.report, f"{row.name}[1]")))


@pytest.mark.parametrize("ending", ["txt", "json", "svg", "dot"])
def test_files(witness: gradwitness.Witness, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    witness.save(path)
    text = path.read_text(encoding="utf-8")
    harmless(text)
    if ending == "json":
        assert json.loads(text)["gradients"][0]["name"] == f"{NAME_SHOWN}.{NAME_SHOWN}"
    if ending == "svg":
        ET.fromstring(text)  # noqa: S314 (our own)


def test_what_a_recording_holds(witness: gradwitness.Witness) -> None:
    tape = witness.tape
    assert replace(tape.values[0], name=HOSTILE).name == SHOWN
    assert replace(tape.nodes[0], name=HOSTILE).name == SHOWN
    assert Source(HOSTILE, f"{HOSTILE}:3") == Source(SHOWN, f"{SHOWN}:3")
    call = Call(0, HOSTILE, {"a": HOSTILE, "b": (HOSTILE,)}, ())
    assert call.op == SHOWN
    harmless(Names(replace(tape, calls=[call])).expression(call))


def test_annotations(witness: gradwitness.Witness) -> None:
    lines = commands(witness.faults)
    assert len(lines) == 1
    assert all(line.isprintable() and line.startswith("::error ") for line in lines)


def test_claims(witness: gradwitness.Witness) -> None:
    right = np.array([0.0, 2.0, 8.0])  # d/dw sum (w x)^2 = 2 w x^2
    judged = witness.check_claims({f"{NAME}.{NAME}": 3 * right, HOSTILE: np.ones(7)})
    harmless(f"{judged}")
    (run,) = judged.runs
    assert run.rows[0].claimed_as == f"{NAME_SHOWN}.{NAME_SHOWN}"
    assert run.unknown == (SHOWN,)
    assert all(line.isprintable() for line in commands(judged.faults))


def test_claims_that_only_look_alike() -> None:
    names = ("a\u200b", "a\\u200b")
    with pytest.raises(gradwitness.InputError, match="x: two names differ in characters that can"):
        Claims("x", ({name: Claim(name, np.ones(2)) for name in names},))
