"""Tensors with what stood before them, put together to runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gradwitness.claims.text_labels import is_run_header

if TYPE_CHECKING:
    from gradwitness.claims.claim import Claim, Run

# "=== Epoch 3 of 10 ===": nothing but the number of a run.
_ONLY_A_RUN = re.compile(
    r"(?i)\W*(?:run|epoch|step|iter(?:ation)?|batch|seed|pass|sweep|trial)\W*\d+"
    r"(?:\s*(?:/|of)\s*\d+)?\W*"
)


@dataclass
class _Record:
    claim: Claim
    heading: str
    is_first: bool = False  # of a run, because a line says so


@dataclass
class Collector:
    """Takes lines of text and tensors in the file's order.

    A line of text names the tensor after it. If another line of text comes first, it was a heading
    and belongs to all tensors up to the next one.
    """

    notes: list[str] = field(default_factory=list)
    _records: list[_Record] = field(default_factory=list)
    _pending: str = ""
    _heading: str = ""
    _is_first: bool = False
    _unnamed: int = 0  # in this run
    _nameless: int = 0

    def text(self, name: str) -> None:
        """Take a line of text."""
        if _ONLY_A_RUN.fullmatch(name):
            self._begin_run()
            self._pending = ""
            return
        self._move_heading()
        self._pending = name

    def _move_heading(self) -> None:
        if self._pending:
            if self._pending != self._heading and is_run_header(self._pending):
                self._begin_run()
            self._heading = self._pending

    def _begin_run(self) -> None:
        self._is_first = bool(self._records)
        self._unnamed = 0

    def tensor(self, name: str, claim: Claim) -> None:
        """Take a tensor, and the name before it in its own line, if there is one."""
        if name:
            self._move_heading()
        else:
            name = self._pending
        self._pending = ""
        if not name:
            self._unnamed += 1
            self._nameless += 1
            name = f"tensor{self._unnamed}"
        self._records.append(_Record(replace(claim, name=name), self._heading, self._is_first))
        self._is_first = False

    def runs(self) -> tuple[Run, ...]:
        """Return the tensors by their names: a name that comes again begins another run."""
        starts = [0, *(at for at, record in enumerate(self._records) if record.is_first)]
        parts = [self._records[a:b] for a, b in pairwise([*starts, len(self._records)])]
        runs = [run for part in parts for run in _split(part)]
        if len(runs) > 1:
            self.notes.append(f"it holds {len(runs)} runs: the same names come again")
        if self._nameless:
            self.notes.append(f"{self._nameless} tensors have no name and are called tensor1, ...")
        return tuple(runs)


def _split(records: list[_Record]) -> list[Run]:
    names = [record.claim.name for record in records]
    if len(set(names)) < len(names):
        # "Layer 1", then "weight", "bias"; "Layer 2", then "weight", "bias".
        full = [f"{record.heading} {record.claim.name}".strip() for record in records]
        if len(set(full)) == len(full) and not any(is_run_header(r.heading) for r in records):
            names = full
    runs: list[Run] = [{}]
    for name, record in zip(names, records, strict=True):
        if name in runs[-1]:
            runs.append({})
        runs[-1][name] = replace(record.claim, name=name)
    return [run for run in runs if run]
