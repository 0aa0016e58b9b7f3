"""Two names, or two columns, of one source."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import InputError
from gradwitness._printable import listed

if TYPE_CHECKING:
    from gradwitness.claims.claim import Claim, Claims, Run

_WORD = re.compile(r"[^\s./]+")


def named(claims: Claims, name: str, common: str) -> Claims:
    """Return the tensors of one name, called ``common`` if nothing else is left of their names.

    ``numerical`` selects the tensor ``numerical``, all tensors ``numerical.fc.weight`` or
    ``fc.weight.numerical``, then called ``fc.weight``; or the column below that word.

    Raises
    ------
    InputError
        If there is none.
    """
    runs = tuple(run for r in claims.runs if (run := _selected(r, name, common)))
    if not runs:
        present = dict.fromkeys(name for run in claims.runs for name in run)
        raise InputError(f"{claims.source}: nothing is named {name!r}; it has {listed(present, 8)}")
    source = f"{claims.source}, {name}"
    return replace(claims, source=source, runs=runs)


def _selected(run: Run, name: str, common: str) -> Run:
    if name in run:
        return {common: run[name]}
    selected: Run = {}
    for full, claim in run.items():
        words = _WORD.findall(full)
        if name not in words:
            continue
        if claim.array.ndim == 2 and claim.array.shape[1] == len(words):
            return {common: _column(claim, words.index(name), name)}
        words.remove(name)
        selected[".".join(words)] = claim
    return selected


def _column(claim: Claim, index: int, name: str) -> Claim:
    rounding = np.broadcast_to(claim.rounding, claim.array.shape)[:, index]
    return replace(claim, name=name, array=claim.array[:, index], rounding=rounding, gaps=())
