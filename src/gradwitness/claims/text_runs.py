"""Group tensors into runs by the text before them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import several
from gradwitness.claims.claim import Claim
from gradwitness.claims.text_labels import is_run_header

if TYPE_CHECKING:
    from gradwitness.claims.claim import Run

# "=== Epoch 3 of 10 ===": nothing but the number of a run.
_NUMBERED = (
    r"(?i)\W*(run|epoch|step|iter(?:ation)?|batch|seed|pass|sweep|trial)\W*(\d+)"
    r"(?:\s*(?:/|of)\s*\d+)?"
)
_ONLY_A_RUN = re.compile(_NUMBERED + r"\W*")
# "Epoch 2: loss" before a number: the run, and the name of the number in it.
_IN_A_RUN = re.compile(_NUMBERED + r"\s*[:,;|-]\s*(?=\S)")


@dataclass
class _Record:
    claim: Claim
    heading: str
    is_first: bool = False  # of a run, as a line says
    full: str = ""  # its name, including the run before it on the same line

    @property
    def is_logged(self) -> bool:
        """Whether it is a line of a training log: ``Epoch 2: loss=0.4``."""
        return bool(self.full) and self.claim.array.ndim == 0


@dataclass
class Collector:
    """Collects lines of text and tensors in the file's order.

    A line of text names the tensor after it. If another line of text follows first, it is a heading
    of all tensors up to the next heading.
    """

    notes: list[str] = field(default_factory=list)
    _records: list[_Record] = field(default_factory=list)
    _unread: list[Claim] = field(default_factory=list)
    _pending: str = ""
    _heading: str = ""
    _is_first: bool = False
    _run: tuple[tuple[str, str], ...] = ()  # as the last line says: Epoch, 2
    _unnamed: int = 0  # in this run
    _nameless: int = 0

    def text(self, name: str) -> None:
        """Add a line of text."""
        only = _ONLY_A_RUN.fullmatch(name)
        if only:
            self._run = ((only[1].lower(), only[2]),)
            self._begin_run()
            self._pending = ""
            return
        self._move_heading()
        self._pending = name

    def take_columns(self, count: int) -> list[str]:
        """Take the names of several columns from the line above; empty if it has none."""
        words = self._pending.split()
        if count > 1 and count <= len(words) <= count + 2 and len({*words}) == len(words):
            self._pending = ""
            return words[-count:]
        return []

    def _move_heading(self) -> None:
        if self._pending:
            if self._pending != self._heading and is_run_header(self._pending):
                self._begin_run()
            self._heading = self._pending

    def _begin_run(self) -> None:
        self._is_first = bool(self._records)
        self._unnamed = 0

    def tensor(self, name: str, claim: Claim) -> None:
        """Add a tensor, and the name before it on the same line, if any."""
        if name:
            self._move_heading()
        else:
            name = self._pending
        self._pending = ""
        if not name:
            self._unnamed += 1
            self._nameless += 1
            name = f"tensor{self._unnamed}"
        full, name = name, self._without_run(name)
        full = full if full != name else ""
        claim = replace(claim, name=name)
        self._records.append(_Record(claim, self._heading, self._is_first, full))
        self._is_first = False

    def unread(self, name: str, where: str) -> None:
        """Add a tensor whose numbers could not be read: it is there, and nobody knows more."""
        self._move_heading()
        self._pending = ""
        none = np.zeros(0)
        self._unread.append(Claim(name, none, gaps=(0,), where=where, is_open=True))

    def _without_run(self, name: str) -> str:
        """Strip the run from a name; if it differs from the last, a new run begins."""
        prefixes = []
        while match := _IN_A_RUN.match(name):
            prefixes.append((match[1].lower(), match[2]))
            name = name[match.end() :]
        if prefixes and tuple(prefixes) != self._run:
            self._run = tuple(prefixes)
            self._begin_run()
        return name

    def runs(self, stem: str = "") -> tuple[Run, ...]:
        """Return the tensors by name; a repeated name begins another run.

        A tensor alone, without a name, is named ``stem``, if that is given.
        """
        if stem and self._nameless == len(self._records) == 1:
            claim = self._records[0].claim
            return ({stem: replace(claim, name=stem)},)
        starts = [0, *(i for i, record in enumerate(self._records) if record.is_first)]
        parts = [self._records[a:b] for a, b in pairwise([*starts, len(self._records)])]
        runs = [run for part in _with_tensors(parts) for run in _split(part)]
        for claim in self._unread:
            if run := next((run for run in runs if claim.name not in run), None):
                run[claim.name] = claim
        if len(runs) > 1:
            self.notes.append(f"it holds {len(runs)} runs, as names repeat")
        if self._nameless:
            none = "tensor has no name and was named", "tensors have no name and were named"
            self.notes.append(f"{several(self._nameless, *none)} tensor1, ...")
        return tuple(runs)


def _with_tensors(parts: list[list[_Record]]) -> list[list[_Record]]:
    """Join parts that are only log lines to the part after them: they are not runs."""
    if all(record.is_logged for part in parts for record in part):
        return parts
    joined: list[list[_Record]] = []
    log_lines: list[_Record] = []
    for part in parts:
        if all(record.is_logged for record in part):
            named = (replace(r, claim=replace(r.claim, name=r.full)) for r in part)
            log_lines += named
        else:
            joined.append(log_lines + part)
            log_lines = []
    joined[-1] += log_lines
    return joined


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
