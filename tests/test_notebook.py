"""In a notebook, where rich would show what it renders instead of giving it back."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import nbclient
import nbformat

import gradwitness

if TYPE_CHECKING:
    import pytest

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


def test_a_witness_in_a_notebook_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(gradwitness.__file__).parents[1]))
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(CELL)]  # type: ignore[no-untyped-call]
    )
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    seen = json.loads((tmp_path / "seen.json").read_text())
    outputs = notebook.cells[0].outputs
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


def test_a_witness_at_the_end_of_a_cell_is_a_table_and_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(gradwitness.__file__).parents[1]))
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(SHOWN)]  # type: ignore[no-untyped-call]
    )
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    (output,) = notebook.cells[0].outputs
    shown = output["data"]["text/html"]
    assert "AGREES" in shown
    # d/dx of sum(x^2) at 1 is 2, three times: its norm is sqrt(12).
    assert ">3.46<" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script" not in shown
    (picture,) = re.findall(r'src="data:image/svg[+]xml;base64,([^"]*)"', shown)
    assert b"MulBackward0 #1" in base64.b64decode(picture)
