"""The example exercise, graded: marks, causes, and no right number that nobody asked for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment.invoke import cli
from gradwitness import InputError
from gradwitness.api.targets import judged
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.rank import Cause
from gradwitness.grading.marks import Marks, grade
from gradwitness.grading.task import read_task
from gradwitness.report.console import as_text
from gradwitness.report.record import dumps
from gradwitness.report.tables.marks import marks_record, marks_table

EXERCISE = Path(__file__).parents[2] / "examples" / "grade"
TASK = EXERCISE / "task.toml"


@pytest.fixture(scope="module")
def program() -> Any:
    return judged(read_task(TASK).target, keep=None)[:2]


def right() -> dict[str, np.ndarray[Any, Any]]:
    """The gradients by hand, as the README of the exercise derives them."""
    with np.load(EXERCISE / "data.npz") as held:
        data = {name: held[name].astype(np.float64) for name in held.files}
    h = 1 / (1 + np.exp(-(data["x"] @ data["hidden.weight"].T + data["hidden.bias"])))
    dp = 2 * (h @ data["output.weight"].T + data["output.bias"] - data["y"]) / 8
    dz = dp @ data["output.weight"] * h * (1 - h)
    return {
        "hidden.weight": dz.T @ data["x"],
        "hidden.bias": dz.sum(0),
        "output.weight": dp.T @ h,
        "output.bias": dp.sum(0),
    }


def graded(program: Any, folder: Path, claims: dict[str, Any]) -> Marks:
    np.savez(folder / "answer.npz", **claims)
    return grade(read_task(TASK), folder / "answer.npz", *program)


def test_a_right_answer_gets_all_marks(program: Any, tmp_path: Path) -> None:
    marks = graded(program, tmp_path, right())
    assert [m.standing for m in marks.marks] == ["right"] * 4
    assert (marks.earned, marks.worth, marks.open) == (8.0, 8.0, 0.0)
    assert marks.verdict.exit_code == 0


def test_float32_is_exact_enough_and_three_digits_are_not(program: Any, tmp_path: Path) -> None:
    single = {name: g.astype(np.float32) for name, g in right().items()}
    assert graded(program, tmp_path, single).verdict.exit_code == 0
    rounded = right() | {"output.bias": np.round(right()["output.bias"], 3)}
    marks = graded(program, tmp_path, rounded)
    assert [m.standing for m in marks.marks] == ["right", "right", "right", "wrong"]
    assert marks.earned == 7.0


def test_the_output_layer_is_wrong_and_the_hidden_one_follows(program: Any, tmp_path: Path) -> None:
    # The factor 2 of the square is missing, so that every gradient is half of what it should be.
    marks = graded(program, tmp_path, {name: g / 2 for name, g in right().items()})
    standing = {m.name: m.standing for m in marks.marks}
    assert set(standing.values()) <= {"wrong", "wrong by an earlier one"}
    assert standing["output.bias"] == "wrong"
    assert "2" in marks.causes[0].text
    worth = {m.name: m.earned for m in marks.marks if m.standing == "wrong by an earlier one"}
    assert all(earned == read_task(TASK).worth(n) / 2 for n, earned in worth.items())
    assert marks.verdict.exit_code == 1


def test_what_is_missing_and_what_is_not_finite(program: Any, tmp_path: Path) -> None:
    claims = right()
    del claims["output.weight"]
    claims["hidden.bias"] = np.full(5, np.nan)
    marks = graded(program, tmp_path, claims)
    standing = {m.name: m.standing for m in marks.marks}
    assert standing == {
        "hidden.weight": "right",
        "hidden.bias": "wrong",
        "output.weight": "not handed in",
        "output.bias": "right",
    }
    assert marks.earned == 4.0


def test_nothing_that_can_be_graded(program: Any, tmp_path: Path) -> None:
    (tmp_path / "answer.py").write_text("def gradients(data): return data['nothing']\n")
    marks = grade(read_task(TASK), tmp_path / "answer.py", *program)
    assert "gradients() failed" in marks.failure
    assert "KeyError" in marks.printed
    assert {m.standing for m in marks.marks} == {"not handed in"}
    assert marks.verdict.exit_code == 1


def test_marks_for_what_is_not_there(program: Any, tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(
        f'program = "{EXERCISE}/network.py:step"\n[marks]\n"hiden.weight" = 3\n'
    )
    with pytest.raises(InputError, match=r"marks for hiden\.weight, .* it has hidden\.weight"):
        grade(read_task(tmp_path / "task.toml"), EXERCISE / "right.py", *program)


def test_a_task_whose_own_program_is_wrong_grades_nobody() -> None:
    swish = judged(str(EXERCISE.parent / "swish.py:step"), keep=None)[:2]
    with pytest.raises(InputError, match="own program has wrong gradients"):
        grade(read_task(TASK), EXERCISE / "right.py", *swish)


def numbers(text: str) -> set[float]:
    return {float(n) for n in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)}


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_tells_no_right_number_unless_asked(tmp_path: Path, as_json: bool) -> None:
    wrong = EXERCISE / "forgot_the_sigmoid.py"
    words = ["grade", str(TASK), str(wrong), *["--json"] * as_json]
    secret = np.concatenate([g.ravel() for g in right().values()])

    def told(text: str) -> int:
        found = np.array(sorted(numbers(text)) or [np.inf])
        return int(sum(np.min(np.abs(found - n)) < 1e-6 * abs(n) for n in secret))

    ended = cli(*words)
    assert ended.code == 1
    # What the student computed right is no secret, and not shown either.
    assert told(ended.out) == 0
    ended = cli(*words, "--answers")
    assert ended.code == 1
    assert told(ended.out) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("h * 0.3712", "The mistake is of this kind: constant factor."),
        ("h * (1.7 if n == 'hidden.weight' else 1)", "of this kind: constant factor."),
        ("h * 0.3 / size", "of this kind: clipped by norm."),
        ("h + 0.3712 * data[n]", "of this kind: weight decay added."),
        ("data[n] - 0.3712 * h", "of this kind: updated weight instead of gradient."),
        ("np.clip(h, -0.1, 0.1)", "of this kind: clipped by value."),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_right_number_follows_from_what_is_told(
    tmp_path: Path, change: str, words: str, as_json: bool
) -> None:
    """Divided by the factor, the student's own numbers would be right."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        f"import sys\nsys.path.insert(0, {str(EXERCISE)!r})\nimport numpy as np\nimport right\n"
        "def gradients(data):\n    g = right.gradients(data)\n"
        "    size = np.sqrt(sum((h ** 2).sum() for h in g.values()))\n"
        f"    return {{n: {change} for n, h in g.items()}}\n"
    )
    command = ["grade", str(TASK), str(wrong), *["--json"] * as_json]
    told = cli(*command).out
    assert words in " ".join(told.split())
    size = float(np.sqrt(sum((g**2).sum() for g in right().values())))
    secret = [0.3712, 1.7, 1 / 0.3712, 1 / 1.7, size, 0.3 / size]
    shown = numbers(told)
    assert not [n for n in secret if any(abs(n - s) < 1e-3 * n for s in shown)]
    assert set(numbers(cli(*command, "--answers").out)) > shown


def test_what_a_new_cause_says_is_hidden() -> None:
    """Unless its hypothesis says that no figure in it is fitted to the answer."""
    assert Explanation("new", "3.25 times", {}).reveals
    cause = Cause("new", "It is 3.25 times", 1, 99.0, ("w",), ("w",), (), 3.25, 0.0, "", None)
    marks = Marks("t", "s", (), (cause,), "", "", (), {})
    for told in (as_text(marks_table(marks)), dumps(marks_record(marks))):
        assert "The mistake is of this kind: new." in told
        assert "3.25" not in told
    assert "3.25 times" in as_text(marks_table(marks, answers=True))
    known = replace(marks, causes=(replace(cause, reveals=False),))
    assert "3.25 times" in as_text(marks_table(known))


def test_the_command_writes_marks(tmp_path: Path) -> None:
    words = ("grade", TASK, EXERCISE / "right.py", "--save")
    ended = cli(*words, tmp_path / "m.json")
    assert ended.code == 0
    assert "marks  8 of 8" in ended.out
    record = json.loads((tmp_path / "m.json").read_text())
    assert (record["schema"], record["version"]) == ("gradwitness-marks", 1)
    assert (record["earned"], record["verdict"]) == (8.0, "AGREES")
    ended = cli(*words, tmp_path / "m.svg")
    assert ended.code == 2
    assert "unsupported extension '.svg'; use .txt, .json" in ended.err
