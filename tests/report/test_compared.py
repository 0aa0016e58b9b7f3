"""Two saved reports side by side."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from gradwitness._errors import FileFormatError, InputError
from gradwitness.cli import run_words
from gradwitness.report.compared import compared
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

STEP = """
import torch

FACTOR = {factor}

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return FACTOR * g

def step():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    Double.apply(net(torch.ones(1, 3))).sum().backward()
"""


def report(
    folder: Path, name: str, gradients: dict[str, tuple[str, float]], notes: tuple[str, ...] = ()
) -> Path:
    """Write a report by hand: verdict and norm of each gradient."""
    rows = [
        {"name": n, "pass": 0, "verdict": v, "ratio": 0.5, "digits": "inf", "norm": norm}
        for n, (v, norm) in gradients.items()
    ]
    verdicts = [v for v, _ in gradients.values()]
    record: dict[str, Any] = {
        "schema": "gradwitness-comparison",
        "version": 1,
        "verdict": next((v for v in ("DISAGREES", "INCONCLUSIVE") if v in verdicts), "AGREES"),
        "gradients": rows,
        "steps": [],
        "notes": [{"kind": kind, "line": ""} for kind in notes],
    }
    path = folder / name
    path.write_text(json.dumps(record))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save the reports of a right step, and of one whose backward forgets its factor."""
    folder = tmp_path_factory.mktemp("saved")
    for name, factor in {"right": 2.0, "wrong": 1.0}.items():
        (folder / f"{name}.py").write_text(STEP.format(factor=factor))
        code = run_words(["check", f"{folder / name}.py:step", "--save", f"{folder / name}.json"])
        assert code == (factor == 1.0)
    return {name: folder / f"{name}.json" for name in ("right", "wrong")}


def test_what_became_worse_fails(
    saved: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words(["compare", str(saved["right"]), str(saved["wrong"])]) == 1
    said = capsys.readouterr().out
    assert "AGREES -> DISAGREES  step  backward: DoubleBackward #1, gradient of" in said
    assert "verdict   AGREES -> DISAGREES" in said
    # The line of the backward, and not that of the forward.
    at = 1 + STEP.splitlines().index("        return FACTOR * g")
    assert f"wrong.py:{at}\n" in said
    # Half the gradient: sqrt(6) times 2, and times 1.
    assert "4.9 -> 2.45" in said


def test_what_became_better_passes(
    saved: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words(["compare", str(saved["wrong"]), str(saved["right"]), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "gradwitness-compared"
    assert (record["verdict"], record["before"], record["after"]) == (
        "AGREES", "DISAGREES", "AGREES",
    )  # fmt: skip
    assert not any(change["worse"] for change in record["changes"])
    assert {"weight", "bias"} <= {change["name"] for change in record["changes"]}


def test_the_same_report_has_no_changes(
    saved: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words(["compare", str(saved["wrong"]), str(saved["wrong"])]) == 0
    said = capsys.readouterr().out
    assert (
        said.split()
        == ("2 gradients unchanged verdict DISAGREES -> DISAGREES ; nothing became worse")
        .replace("DISAGREES ;", "DISAGREES;")
        .split()
    )


def test_norms_gradients_and_notes_that_come_and_go_are_told(tmp_path: Path) -> None:
    before = report(tmp_path, "a.json", {"w": ("AGREES", 1.0), "v": ("AGREES", 1.0)}, ("stale",))
    after = report(tmp_path, "b.json", {"w": ("AGREES", 1.02), "u": ("INCONCLUSIVE", 1.0)})
    found = compared(before, after)
    told = {
        (c.entry.kind, c.entry.name): (c.before is None, c.after is None) for c in found.changes
    }
    assert told == {
        ("gradient", "w"): (False, False),
        ("gradient", "v"): (False, True),
        ("gradient", "u"): (True, False),
        ("note", "stale"): (False, True),
    }
    assert found.same == 0
    # The new gradient is in doubt.
    assert found.verdict is Verdict.INCONCLUSIVE
    assert compared(after, before).verdict is Verdict.AGREES


def test_a_norm_within_a_hundredth_is_the_same(tmp_path: Path) -> None:
    before = report(tmp_path, "a.json", {"w": ("AGREES", 1.0), "z": ("AGREES", 0.0)})
    after = report(tmp_path, "b.json", {"w": ("AGREES", 1.009), "z": ("AGREES", 0.0)})
    assert compared(before, after).same == 2
    zero = report(tmp_path, "c.json", {"w": ("AGREES", 1.0), "z": ("AGREES", 1e-30)})
    assert compared(before, zero).same == 1


BAD = {
    "not JSON": "{",
    "a list": "[]",
    "claims": '{"schema": "gradwitness-claims", "version": 1}',
    "a later version": '{"schema": "gradwitness-comparison", "version": 2}',
    "no gradients": '{"schema": "gradwitness-comparison", "version": 1, "verdict": "AGREES"}',
    "deep": "[" * 100_000,
    "bytes": "\udcff",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(FileFormatError, match=r"is not a saved report .*--json > report.json"):
        compared(path, path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(InputError, match=r"cannot read .*: there is no such file"):
        compared(path, path)


def test_a_folder_and_a_pipe_are_not_said_to_be_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match=r"cannot read .*: it is no regular file"):
            compared(path, path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b'{"\x81": 1}')
    with pytest.raises(FileFormatError, match=r"is not a saved report \(it is not UTF-8 text\)"):
        compared(path, path)
