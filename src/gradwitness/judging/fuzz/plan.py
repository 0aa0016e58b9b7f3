"""Which trials are made of a function, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.fuzz.axes import groups, reduced
from gradwitness.judging.fuzz.description import described, lengths
from gradwitness.judging.fuzz.drawn import CONTIGUOUS, KINDS, ONE_NUMBER, is_float, memory
from gradwitness.judging.fuzz.numbers import changeable
from gradwitness.judging.fuzz.trials import Court, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradwitness.judging.fuzz.axes import Group
    from gradwitness.judging.fuzz.drawn import Drawn, Subject
    from gradwitness.judging.fuzz.trials import Deadline, Result

# Lengths that tell at once whether a length matters, and those that tell how.
_FEW = (1, 4, 64, 128, 256)
_MANY = (
    *(2, 3, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 65, 80, 96, 127, 129, 192),
    *(255, 257, 384, 512, 768, 1024),
)
# Longer than the longest of these and than so many times its own, no axis becomes.
_LONGEST, _TIMES = 257, 4
# What numbers are multiplied by.
_FACTORS = (1 / 64, 1 / 8, 8.0, 64.0)
_HALVINGS = 7
# Lengths that two axes have in common, in trials of whether that matters.
_EQUAL = (3, 8, 64)
# Trials in which several things are changed at once: a description must hold there too.
_MIXED, _MIXED_LENGTHS = 8, (2, 3, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32)
# What was wrong is tried again with other numbers, from this repeat on.
_CONFIRMED = 100


def court_of(
    subject: Subject,
    cotangents: Sequence[Drawn | None],
    *,
    unseen: float,
    until: Deadline,
    resizes: bool = True,
) -> Court:
    """Return where a function is tried.

    Parameters
    ----------
    unseen : float
        How far from the slopes a gradient may be, of its size.
    resizes : bool
        Whether it may run on inputs of other shapes, and of other numbers, with which a loop might
        not end.

    Raises
    ------
    Unjudgeable
        If it does not run in float64.
    """
    rng = np.random.default_rng(0)
    inputs = reduced(subject, rng) if resizes else dict(subject.given)
    subject.forward(inputs)
    found = groups(subject, inputs, rng) if resizes else []
    court = Court(subject, inputs, found, cotangents, unseen=unseen, until=until)
    court.keeps_numbers = not resizes
    return court


def where_wrong(court: Court) -> str:
    """Return when only an accused function is wrong; empty if it always is, or it is not clear."""
    recorded = court.tries(Trial(drawn=False))
    if not recorded or not recorded[0].wrong:
        # Not in float64, or not at the size that there is time for.
        return ""
    court.tries(*_first(court))
    return "" if all(result.wrong for result in court.results) else told(court)


def wrong_elsewhere(court: Court) -> list[Result]:
    """Try a function that is right where it was; return the trials in which it is wrong.

    Raises
    ------
    Unjudgeable
        If trials tell nothing of it.
    """
    if any(result.wrong for result in court.tries(Trial(drawn=False))):
        raise Unjudgeable("in float64 its slopes do not support its gradients at its own inputs")
    shuffled = court.tries(*(Trial(shuffled=True, repeat=n) for n in (0, 1)))
    if any(result.wrong for result in shuffled):
        # What is right of symmetric, sorted or normalised numbers need not be right of others.
        court.keep_numbers(shuffled)
    court.tries(*_first(court))
    _look_closer(court, thorough=True)
    court.tries(*_mixed(court))
    if not court.results:
        raise Unjudgeable("no slope could be measured")
    wrong = [result for result in court.results if result.wrong]
    again = [replace(r.trial, repeat=r.trial.repeat + _CONFIRMED) for r in wrong[:_MIXED]]
    confirmed = any(result.wrong for result in court.tries(*again))
    return wrong if confirmed else []


def told(court: Court) -> str:
    """Return when only a function is wrong that is wrong in some trials; empty if not clear."""
    _look_closer(court)
    right = next((r.trial for r in court.results if not r.wrong), Trial())
    court.tries(*(_together(right, trial) for trial in _first(court)), *_mixed(court))
    # What ran out of time has not seen the trials that could speak against it.
    return "" if court.is_over else described(court)


def _first(court: Court) -> Iterator[Trial]:
    """Yield what tells whether anything matters."""
    plain = dict.fromkeys(court.inputs, CONTIGUOUS.kind)
    yield from (Trial(), Trial(memories=plain, cotangent=CONTIGUOUS.kind))
    yield Trial(cotangent=ONE_NUMBER)
    for group in court.groups:
        size = court.size(group)
        yield from _resized(court, group, (*_FEW, size - 1, size + 1))
    for number, drawn in court.inputs.items():
        if not court.keeps_numbers:
            yield from (Trial(numbers=(number, *change)) for change in changeable(drawn.array))
            factors = _FACTORS if is_float(drawn.array) else ()
            yield from (Trial(scaled=(number, factor)) for factor in factors)


def _look_closer(court: Court, *, thorough: bool = False) -> None:
    """Make the trials that tell what it is that matters."""
    court.tries(*(Trial(cotangent=kind) for kind in (CONTIGUOUS.kind, *KINDS)))
    for number, drawn in court.inputs.items():
        if is_float(drawn.array) and drawn.array.size > 1:
            # What repeats itself in memory holds other numbers.
            rank, kept = drawn.array.ndim, court.keeps_numbers
            kinds = [kind for kind in KINDS if not (kept and memory(kind, rank).repeated)]
            lying = (CONTIGUOUS.kind, *kinds)
            court.tries(*(Trial(memories={number: kind}) for kind in lying))
        changes = [] if court.keeps_numbers else changeable(drawn.array)
        court.tries(*(Trial(numbers=(number, *c), repeat=n) for c in changes for n in (1, 2)))
        if is_float(drawn.array) and not court.keeps_numbers:
            _bisect_sizes(court, number)
    court.tries(*(Trial(repeat=n) for n in (1, 2)))
    for a, b in combinations(court.groups, 2):
        court.tries(*(Trial(sizes={a: size, b: size}) for size in _EQUAL))
        court.tries(Trial(sizes={a: 5, b: 3}), Trial(sizes={a: 3, b: 5}))
    court.tries(*_broadcast(court))
    for group in court.groups:
        if thorough or _flips(court, group):
            court.tries(*_resized(court, group, _MANY))
            _bisect(court, group)


def _broadcast(court: Court) -> Iterator[Trial]:
    """Yield trials in which inputs are broadcast that were not, or the other way round."""
    for group in court.groups:
        for n in (0, 1):
            apart = {axis.number: axis for axis in group if court.size(group) > 1}
            ones = apart.values() if len(apart) > 1 else ()
            yield from (Trial(one=(axis, 1), repeat=n) for axis in ones)
            wide = court.size(group)
            yield from (Trial(one=(axis, wide), repeat=n) for axis in court.stuck)


def _flips(court: Court, group: Group) -> bool:
    """Whether a function is right at one length of a group, and wrong at another."""
    alone = [r for r in court.results if not r.trial.sizes or {*r.trial.sizes} == {group}]
    return len({bool(r.wrong) for r in alone if r.trial.sizes or r.trial == Trial()}) > 1


def _bisect(court: Court, group: Group) -> None:
    """Find the length from which on a function is wrong, or right, if there is one."""
    for _ in range(10 * _flips(court, group)):
        sides = [[r for r in court.results if bool(r.wrong) is wrong] for wrong in (False, True)]
        low, high = sorted((lengths(side, group) for side in sides), key=lambda side: side[0])
        if low[-1] + 1 >= high[0]:
            return
        middle = (low[-1] + high[0]) // 2
        if not court.tries(*_resized(court, group, [middle])):
            return


def _together(one: Trial, other: Trial) -> Trial:
    """Return a trial with the changes of both; where they clash, with the other's."""
    return replace(
        other,
        sizes={**one.sizes, **other.sizes},
        memories={**one.memories, **other.memories},
        cotangent=other.cotangent or one.cotangent,
        numbers=other.numbers or one.numbers,
        scaled=other.scaled or one.scaled,
        one=other.one or one.one,
    )


def _bisect_sizes(court: Court, number: int) -> None:
    """Find how large an input's numbers may be, if a function is wrong only for large ones."""
    own = [Trial(), *(Trial(scaled=(number, factor)) for factor in _FACTORS)]
    tried = [(r.trial.scaled or (number, 1.0), bool(r.wrong)) for r in court.tries(*own)]
    right = [factor for (_, factor), wrong in tried if not wrong]
    wrong = [factor for (_, factor), wrong in tried if wrong]
    for _ in range(_HALVINGS if right and wrong and max(right) < min(wrong) else 0):
        middle = math.sqrt(max(right) * min(wrong))
        for result in court.tries(Trial(scaled=(number, middle))):
            (wrong if result.wrong else right).append(middle)


def _mixed(court: Court) -> Iterator[Trial]:
    rng = np.random.default_rng(1)
    for repeat in range(_MIXED):
        sizes = {group: int(rng.choice(_MIXED_LENGTHS)) for group in court.groups}
        kind = str(rng.choice([CONTIGUOUS.kind, *KINDS]))
        yield Trial(sizes=sizes, cotangent=kind, repeat=3 + repeat)


def _resized(court: Court, group: Group, sizes: Iterable[int]) -> Iterator[Trial]:
    most = max(_LONGEST, _TIMES * court.size(group))
    wanted = (size for size in sizes if 0 < size <= most and size != court.size(group))
    yield from (Trial(sizes={group: size}) for size in wanted)
