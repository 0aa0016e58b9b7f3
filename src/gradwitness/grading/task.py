"""An exercise, as its teacher writes it down: TASK.toml.

::

    title = "Backpropagation by hand"
    program = "network.py:step"  # runs forward and backward; or tape = "recorded.npz"

    [submission]
    function = "gradients"  # of a submitted .py file; returns a dict of arrays
    data = "data.npz"       # handed to it as a dict of arrays; without it, it takes nothing
    format = "float32"      # how exactly it has to compute
    seconds = 30            # what it may take
    mebibytes = 2048

    [marks]
    each = 1                # for a gradient that is not named below
    carried_forward = 0.5   # the share for one that is wrong only because an earlier one is
    "hidden.weight" = 3

Only ``program`` or ``tape`` must be there. Paths are relative to the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError
from gradwitness.claims.binary import read_arrays
from gradwitness.engine.floats import is_float
from gradwitness.files.toml import read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What a submitted program may use, and how it is called."""

    function: str = "gradients"  # the function that returns the gradients
    data: Path | None = None  # an .npz file with what it is called with
    format: str = "float32"  # the format in which an answer must be as good as computed
    seconds: float = 30.0  # wall time, and processor time
    mebibytes: float = 2048.0  # address space


@dataclass(frozen=True)
class Task:
    """One exercise."""

    path: Path  # the file that it was read from
    title: str
    target: str  # the program or the tape, as `gradwitness check` takes it
    submission: Limits = field(default_factory=Limits)
    # Marks for a gradient; the share of them for one that is wrong only by inheritance.
    each: float = 1.0
    carried_forward: float = 0.5
    # Of the gradients that have marks of their own.
    marks: Mapping[str, float] = field(default_factory=dict)

    def worth(self, name: str) -> float:
        """Return the marks for a gradient."""
        return self.marks.get(name, self.each)


def read_task(path: Path) -> Task:
    """Read a TASK.toml; raise `InputError` if it is unreadable, or says what has no meaning."""
    told = read_toml(path)
    _only(path, "", told, {"title", "program", "tape", "submission", "marks"})
    sources = [key for key in ("program", "tape") if key in told]
    if len(sources) != 1:
        raise InputError(f'{path}: give either program = "FILE.py:FUNCTION" or tape = "FILE.npz"')
    marks = _table(path, told, "marks")
    worth = {name: _number(path, f"marks.{name}", marks[name]) for name in marks}
    share = worth.pop("carried_forward", 0.5)
    if share > 1:
        raise InputError(f"{path}: marks.carried_forward = {share:g} is a share, from 0 to 1")
    return Task(
        path,
        _text(path, "title", told.get("title", path.stem)),
        str(path.parent / _text(path, sources[0], told[sources[0]])),
        _limits(path, _table(path, told, "submission")),
        worth.pop("each", 1.0),
        share,
        worth,
    )


def _limits(path: Path, told: dict[str, Any]) -> Limits:
    _only(path, "submission.", told, {each.name for each in fields(Limits)})
    known: dict[str, Any] = {}
    for key in ("function", "format"):
        if key in told:
            known[key] = _text(path, f"submission.{key}", told[key])
    for key in ("seconds", "mebibytes"):
        if key in told:
            known[key] = _number(path, f"submission.{key}", told[key])
            if known[key] == 0:
                raise InputError(f"{path}: submission.{key} = 0 lets nothing run")
    if "data" in told:
        known["data"] = path.parent / _text(path, "submission.data", told["data"])
        if not known["data"].is_file():
            raise InputError(f"{path}: submission.data: there is no file {known['data']}")
        # Whoever hands in a program need not explain the errors of a file of the teacher's.
        read_arrays(known["data"])
    limits = Limits(**known)
    if not limits.function.isidentifier():
        raise InputError(f"{path}: submission.function = {limits.function!r} is no function's name")
    if not is_float(limits.format):
        raise InputError(
            f"{path}: submission.format = {limits.format!r}: "
            "expected float64, float32, float16 or bfloat16"
        )
    return limits


def _only(path: Path, where: str, told: Mapping[str, Any], known: set[str]) -> None:
    for key in told:
        if key not in known:
            raise InputError(
                f"{path}: {where}{key} is not known; expected {', '.join(sorted(known))}"
            )


def _table(path: Path, told: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = told.get(key, {})
    if not isinstance(table, dict):
        raise InputError(f"{path}: {key} is a table: write [{key}]")
    return table


def _text(path: Path, key: str, told: Any) -> str:
    if not isinstance(told, str) or not told:
        raise InputError(f"{path}: {key} = {told!r}: expected text in quotes")
    return told


def _number(path: Path, key: str, told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        raise InputError(
            f"{path}: {key} = {told!r}: expected a number (names with dots need quotes)"
        )
    if not 0 <= told < math.inf:
        raise InputError(f"{path}: {key} = {told}: expected a number from 0 on")
    return float(told)
