"""Two names, or two columns, of one source."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import InputError
from gradwitness._printable import listed

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def by_column(claims: Claims, names: Iterable[str]) -> list[Claims]:
    """Return the columns of a table of several, if what is before their words are ``names``.

    ``fc.weight.torch``, ``fc.weight.mine``, ... are the columns torch and mine where the program
    has a weight, or whatever is called so at the end.
    """
    ends = _ends(names)
    words: dict[str, None] = {}
    for run in claims.runs:
        parts = [full.rpartition(".") for full in run]
        before, own = ({*column} for column in ([p[k] for p in parts] for k in (0, 2)))
        if len(before) * len(own) != len(run) or not _ends(before) <= ends or own & ends:
            return [claims]
        words |= dict.fromkeys(last for *_, last in parts)
    return [named(claims, word, "") for word in words] if len(words) > 1 else [claims]


def _ends(names: Iterable[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


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
