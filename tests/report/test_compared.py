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
    folder: Path,
    name: str,
    gradients: dict[str, tuple[str, float]],
    notes: tuple[str, ...] = (),
    digits: float | str = "inf",
) -> Path:
    """Write a report by hand: verdict and norm of each gradient."""
    rows = [
        {"name": n, "pass": 0, "verdict": v, "ratio": 0.5, "digits": digits, "norm": norm}
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


def test_a_right_gradient_that_is_gone_is_in_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"w": ("AGREES", 1.0), "v": ("AGREES", 1.0)}
    before = report(tmp_path, "a.json", both)
    after = report(tmp_path, "b.json", {"w": ("AGREES", 1.0)})
    assert run_words(["compare", f"{before}", f"{after}", "--json"]) == 3
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["title"] == "v: AGREES -> absent"
    assert [change.how for change in compared(before, after).changes] == ["gone"]
    assert run_words(["compare", f"{before}", f"{after}"]) == 3
    assert (
        "verdict   AGREES -> AGREES; something is newly in doubt, or gone"
        in capsys.readouterr().out
    )
    # One that was wrong is no loss, and nor is a new one.
    wrong = report(tmp_path, "c.json", {"w": ("AGREES", 1.0), "v": ("DISAGREES", 1.0)})
    assert compared(wrong, after).verdict is Verdict.AGREES
    assert run_words(["compare", f"{after}", f"{before}"]) == 0
    assert "different programs" not in capsys.readouterr().out


@pytest.mark.parametrize("verdict", ["AGREES", "DISAGREES"])
def test_reports_without_a_common_gradient_are_of_different_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: str
) -> None:
    before = report(tmp_path, "a.json", {"w": (verdict, 1.0)})
    after = report(tmp_path, "b.json", {"v": ("AGREES", 1.0)})
    assert run_words(["compare", f"{before}", f"{after}"]) == 3
    said = capsys.readouterr().out
    assert said.endswith("\nno gradient is in both: these are reports of different programs\n")
    assert "nothing became worse" not in said


def test_a_norm_within_a_hundredth_is_the_same(tmp_path: Path) -> None:
    before = report(tmp_path, "a.json", {"w": ("AGREES", 1.0), "z": ("AGREES", 0.0)})
    after = report(tmp_path, "b.json", {"w": ("AGREES", 1.009), "z": ("AGREES", 0.0)})
    assert compared(before, after).same == 2
    zero = report(tmp_path, "c.json", {"w": ("AGREES", 1.0), "z": ("AGREES", 1e-30)})
    assert compared(before, zero).same == 1


def test_lost_digits_are_told(tmp_path: Path) -> None:
    w = {"w": ("AGREES", 1.0)}
    seven = report(tmp_path, "a.json", w, digits=7.0)
    # 7 - 6.1 is less than a digit, 7 - 6 is one; all of them are more than any number.
    assert compared(seven, report(tmp_path, "b.json", w, digits=6.1)).same == 1
    for digits in (6.0, "inf"):
        found = compared(seven, report(tmp_path, "b.json", w, digits=digits))
        assert [change.how for change in found.changes] == ["moved"]
    assert compared(seven, report(tmp_path, "b.json", w, digits="nan")).same == 1


def test_one_more_operation_leaves_the_other_pairs_together(tmp_path: Path) -> None:
    """Its number shifts those of all that follow: what was wrong before has not become so."""
    paths = []
    for name, given in (("a", "torch.ones(1, 3)"), ("b", "torch.ones(1, 3) * 1")):
        program = STEP.format(factor=1.0).replace("torch.ones(1, 3)", given)
        program = program.replace(".sum()", ".sum().neg()" if name == "b" else ".sum()")
        (tmp_path / f"{name}.py").write_text(program)
        paths.append(tmp_path / f"{name}.json")
        assert run_words(["check", f"{tmp_path / name}.py:step", "--save", f"{paths[-1]}"]) == 1
    found = compared(*paths)
    assert found.verdict is Verdict.AGREES
    assert "NegBackward0" in "".join(
        change.entry.name for change in found.pairs if change.before is None
    )
    (wrong,) = [c for c in found.pairs if "DoubleBackward" in c.entry.name and c.before
                and c.before.verdict is Verdict.DISAGREES]  # fmt: skip
    assert wrong.after is not None
    assert wrong.after.name != wrong.before.name  # type: ignore[union-attr]


def test_a_page_is_read_like_its_record(saved: dict[str, Path], tmp_path: Path) -> None:
    pages = []
    for name, path in saved.items():
        pages.append(tmp_path / f"{name}.html")
        run_words(["check", f"{path.with_suffix('.py')}:step", "--save", f"{pages[-1]}"])
    assert compared(*pages).pairs == compared(*saved.values()).pairs


def test_files_are_written(saved: dict[str, Path], tmp_path: Path) -> None:
    words = ["compare", *map(str, saved.values())]
    for ending in ("txt", "json", "html"):
        words += ["--save", f"{tmp_path / ending}.{ending}"]
    assert run_words(words) == 1
    assert "AGREES -> DISAGREES" in (tmp_path / "txt.txt").read_text()
    assert json.loads((tmp_path / "json.json").read_text())["schema"] == "gradwitness-compared"
    assert "Something became worse" in (tmp_path / "html.html").read_text()
    assert run_words(["compare", *map(str, saved.values()), "--save", f"{tmp_path}/a.svg"]) == 2


BLOCK = '<script type="application/octet-stream" id="data-record">{}</script>'
BAD = {
    "a page of text": "<!DOCTYPE html><p>no report</p>",
    "a page whose data are no base64": "<" + BLOCK.format("A"),
    "a page whose data are not packed": "<" + BLOCK.format("AAAA"),
    "a page whose data are cut off": "<" + BLOCK.format("H4sIAAAAAAAC"),
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


WHY = {
    "<svg></svg>": "neither JSON nor a whole web page",
    "<!DOCTYPE html><html><p>a repor": "neither JSON nor a whole web page",
    "<!DOCTYPE html><html><p>a shop</html>\n": "a web page without a report of a program",
    "<html>" + BLOCK.replace("record", "steps").format("AAAA") + "</html>": "more than 20,000",
}


@pytest.mark.parametrize(("text", "why"), WHY.items())
def test_what_a_page_lacks_is_said(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.html"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=why):
        compared(path, path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        compared(path, path)


def test_a_folder_and_a_pipe_are_not_said_to_be_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe or a device")):
        with pytest.raises(InputError, match=f"cannot read .*: it is {what}"):
            compared(path, path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b'{"\x81": 1}')
    with pytest.raises(FileFormatError, match=r"is not a saved report \(it is not UTF-8 text\)"):
        compared(path, path)
