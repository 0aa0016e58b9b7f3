"""In a notebook, where rich would show what it renders instead of giving it back."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

import gradwitness

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Outputs: TypeAlias = Callable[..., list[list[dict[str, Any]]]]

CELL = """
import io, json, logging, pathlib
import torch, gradwitness

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

with gradwitness.watch() as witness:
    Half.apply(torch.ones(3, requires_grad=True)).sum().backward()
print(witness)
log = io.StringIO()
logging.basicConfig(stream=log, format="%(message)s")
logging.warning("%s", witness)
witness.save("report.txt")
try:
    witness.require()
except gradwitness.GradientDisagreement as error:
    message = str(error)
pathlib.Path("seen.json").write_text(json.dumps({
    "str": str(witness),
    "log": log.getvalue(),
    "message": message,
    "fault": witness.faults[0].text,
}));
"""


@pytest.fixture
def outputs_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """Run cells in a kernel, of which each start takes seconds; return the outputs of each."""
    monkeypatch.setenv("PYTHONPATH", str(Path(gradwitness.__file__).parents[1]))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    def run(*cells: str) -> list[list[dict[str, Any]]]:
        notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
        )
        where = {"metadata": {"path": tmp_path}}
        nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources=where
        ).execute()
        return [cell.outputs for cell in notebook.cells]

    return run


def test_a_witness_in_a_notebook_is_text_or_shown(tmp_path: Path, outputs_of: Outputs) -> None:
    outputs, shown, waited = outputs_of(CELL, SHOWN, WAITING)
    is_a_table_and_a_graph(shown)
    takes_the_bar_away(waited)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert {(output["output_type"], output["name"]) for output in outputs} == {("stream", "stdout")}
    assert "".join(output["text"] for output in outputs) == seen["str"] + "\n" == seen["log"]
    assert (tmp_path / "report.txt").read_text() == seen["str"]
    assert seen["message"] == f"DISAGREES\n{seen['str']}"
    assert (
        "first wrong step: HalfBackward #1, gradient of x (input 0)\nverdict   DISAGREES\n"
        in (seen["str"])
    )
    assert seen["fault"].startswith("DISAGREES  backward: HalfBackward #1")


SHOWN = """
import torch, gradwitness
name = "<script>alert(1)</script>"
leaf = torch.ones(3, requires_grad=True)
with gradwitness.watch(names={name: leaf}) as witness:
    (leaf * leaf).sum().backward()
witness
"""


def is_a_table_and_a_graph(outputs: list[dict[str, Any]]) -> None:
    (output,) = outputs
    shown = output["data"]["text/html"]
    assert "AGREES" in shown
    # d/dx of sum(x^2) at 1 is 2, three times: its norm is sqrt(12).
    assert ">3.46<" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script" not in shown
    (picture,) = re.findall(r'src="data:image/svg[+]xml;base64,([^"]*)"', shown)
    assert b"MulBackward0 #1" in base64.b64decode(picture)


WRITTEN = """
import torch, gradwitness

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

def cut(x):
    return x.detach()
leaf = torch.ones(3, requires_grad=True)
"""
WRONG = """
with gradwitness.watch() as witness:
    loss = Half.apply(leaf).sum()
    loss.backward()
print(witness)
witness.save("page.html")
"""
CUT = """
with gradwitness.watch() as witness:
    (leaf * cut(leaf)).sum().backward()
print(witness)
"""
MEANT = "gradwitness.allow_detach(cut)"


def test_lines_of_cells_are_named_by_the_cells_number(tmp_path: Path, outputs_of: Outputs) -> None:
    ran = outputs_of(WRITTEN, WRONG, CUT, MEANT, CUT)
    wrong, unmeant, meant = ("".join(o["text"] for o in ran[n]) for n in (1, 2, 4))
    # IPython drops the empty line that each begins with.
    place = "wrong in Half.backward, cell [1], line 10 (called from cell [2], line 2)"
    assert place in wrong
    assert "cell [1], line 13" in unmeant
    assert "return g * ctx.saved_tensors[0]" in (tmp_path / "page.html").read_text()
    assert "cell [1]" not in meant


WAITING = """
from gradwitness import _progress
_progress._PATIENCE = 0
import torch, gradwitness
leaf = torch.ones(3, requires_grad=True)
with gradwitness.watch() as witness:
    (leaf * leaf).sum().backward()
"""


def takes_the_bar_away(outputs: list[dict[str, Any]]) -> None:
    shown = [output["data"]["text/html"] for output in outputs]
    # Displays are updated in place, so what is left of them is empty.
    assert shown
    assert set(shown) == {""}


WORKED = Path(__file__).parents[1] / "docs" / "backpropagation.ipynb"
SAID = re.compile(r"AGREES|DISAGREES|INCONCLUSIVE|CAUSE +.*|judged .*|first wrong.*|cell \[.*")


def said(outputs: list[dict[str, Any]]) -> list[str]:
    """Return verdicts, counts, causes and places of a cell's outputs: what no machine changes."""
    texts = [o.get("text") or "".join(o["data"]["text/html"]) for o in outputs]
    return SAID.findall("".join("".join(text) for text in texts))


def test_the_worked_notebook_says_what_it_shows(outputs_of: Outputs) -> None:
    written = json.loads(WORKED.read_text())["cells"]
    cells = [cell for cell in written if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    ran = outputs_of(*("".join(cell["source"]) for cell in cells))
    assert [*map(said, ran)] == [said(cell["outputs"]) for cell in cells]
    # What the text around the cells says of them.
    assert [said(outputs)[-1] for outputs in ran if said(outputs)] == [
        "AGREES", "DISAGREES", "AGREES", "DISAGREES",
    ]  # fmt: skip
