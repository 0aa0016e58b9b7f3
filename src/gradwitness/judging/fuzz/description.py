"""The shortest description of the trials in which a function was wrong."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from gradwitness._printable import several
from gradwitness.judging.fuzz.axes import named
from gradwitness.judging.fuzz.numbers import DUPLICATES, NEGATIVE, TIES, ZEROS
from gradwitness.judging.fuzz.trials import COTANGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradwitness.judging.fuzz.axes import Group
    from gradwitness.judging.fuzz.trials import Court, Result, Trial

    Facts = Mapping[tuple[Any, ...], Any]

ONLY = "wrong only when"
# Trials on either side of a property, and lengths on either side of a condition on a length.
_LEAST = 2
# Against a single length.
_OTHERS = 3
# Lengths that are listed.
_LISTED = 4

_RANKS = {"largest": 1, "length": 2, "equal": 3}
_SAID = {
    ("strided", True): "{} is not contiguous",
    ("strided", False): "{} is contiguous",
    ("expanded", True): "{} repeats itself in memory (stride 0)",
    ("expanded", False): "{} does not repeat itself in memory (stride 0)",
    ("broadcast", True): "{} is broadcast along an axis of length 1",
    ("broadcast", False): "{} is not broadcast along an axis of length 1",
    (ZEROS, True): "{} holds a 0",
    (ZEROS, False): "{} holds no 0",
    (NEGATIVE, True): "{} holds negative numbers",
    (NEGATIVE, False): "{} holds no negative number",
    (TIES, True): "{} holds equal numbers",
    (TIES, False): "{} holds no equal numbers",
    (DUPLICATES, True): "{} holds a number twice",
    (DUPLICATES, False): "{} holds no number twice",
}


@dataclass(frozen=True)
class Description:
    """A condition under which a function may be wrong.

    Attributes
    ----------
    about : tuple
        What it is a property of.
    text : str
        ``the last axis of x (input 0) is not a multiple of 32``.
    holds : callable
        Of the facts of a trial.
    single : bool
        Whether one length makes one side of it.
    """

    about: tuple[Any, ...]
    text: str
    holds: Callable[[Facts], bool]
    single: bool = False

    @property
    def rank(self) -> int:
        """How simple it is: what is told by one property, by a length, by two."""
        return _RANKS.get(self.about[0], 0)

    def fits(self, results: Sequence[Result]) -> bool:
        """Whether a function was wrong where it holds, and nowhere else."""
        if any(self.holds(result.facts) is not bool(result.wrong) for result in results):
            return False
        sides = [[r for r in results if bool(r.wrong) is wrong] for wrong in (False, True)]
        if self.about[0] == "length":
            few, many = sorted(len(lengths(side, self.about[1])) for side in sides)
            return many >= _OTHERS and few >= (1 if self.single else _LEAST)
        return min(map(len, sides)) >= _LEAST


def lengths(results: Sequence[Result], group: Group) -> list[int]:
    """Return the lengths of a group that were tried, in order."""
    return sorted({result.facts["length", group] for result in results})


def described(court: Court) -> str:
    """Return in which trials only the function was wrong; empty if that cannot be told in short."""
    results = court.results
    fitting = [d for d in _candidates(court) if d.fits(results)]
    if not fitting:
        return ""
    # The shortest are first. Of two that differ in what they are about, neither is known.
    first = fitting[0]
    if any(d.rank == first.rank and d.about != first.about for d in fitting):
        return ""
    return f"{ONLY} {first.text} ({_examples(court, first)})"


def counted(court: Court) -> str:
    """Return how much was tried of a function that was right."""
    results = court.results
    free = [group for group in court.groups if len(lengths(results, group)) > 1]
    sizes = sum(len(lengths(results, group)) - 1 for group in free)
    lying = {(what, kind) for r in results for what, kind in _lying(r.trial).items()}
    numbers = {r.trial.numbers or r.trial.scaled for r in results} - {None}
    axes = several(len(free), "axis", "axes")
    parts = [
        f"{several(sizes, 'other length', 'other lengths')} of {axes}",
        f"{several(len(lying), 'layout', 'layouts')} of inputs and cotangents",
        f"{several(len(numbers), 'other kind', 'other kinds')} of numbers",
    ]
    parts += ["then there was no time for more"] if court.is_over else []
    return f"right in {several(len(results), 'trial', 'trials')} in float64: {', '.join(parts)}"


def _names(court: Court) -> dict[Any, str]:
    return {COTANGENT: COTANGENT} | dict(court.subject.names)


def _lying(trial: Trial) -> dict[Any, str]:
    lying: dict[Any, str] = dict(trial.memories)
    return lying | ({COTANGENT: trial.cotangent} if trial.cotangent else {})


def said(court: Court, trial: Trial) -> str:
    """Return what is other in a trial: ``the last axis of x (input 0) is 33``."""
    names = _names(court)
    parts = [
        f"{named(group[0], names, court.inputs)} is {size}" for group, size in trial.sizes.items()
    ]
    parts += [f"{names[what]} is {kind}" for what, kind in _lying(trial).items()]
    if trial.one is not None:
        parts.append(f"{named(trial.one[0], names, court.inputs)} is {trial.one[1]}")
    if trial.scaled is not None:
        parts.append(f"{names[trial.scaled[0]]} is {trial.scaled[1]:g} times as large")
    if trial.numbers is not None:
        number, name, wanted = trial.numbers
        parts.append(_SAID[name, wanted].format(names[number]))
    return ", ".join(parts) or "other cotangents"


def _candidates(court: Court) -> Iterator[Description]:
    names, facts = _names(court), court.results[0].facts
    for key in facts:
        for wanted in (True, False):
            if (key[0], wanted) in _SAID:
                said = _SAID[key[0], wanted].format(names[key[1]])
                yield Description(key, said, _where(key, partial(operator.is_, wanted)))
    for key in facts:
        if key[0] == "largest":
            yield from _of_size(court, key, names[key[1]])
    for group in court.groups:
        yield from _of_length(court, group)
    for a, b in combinations(court.groups, 2):
        one, other = _pair(a, b, court)
        for wanted, shortest in ((True, 1), (True, 2), (False, 1)):
            # One row of one column may be taken for its transpose.
            said = f"{one} and {other} are {'equally' if wanted else 'not equally'} long"
            yield Description(("equal", a, b), said, partial(_equal, a, b, shortest, wanted))


def _of_size(court: Court, key: tuple[Any, ...], name: str) -> Iterator[Description]:
    """Yield that numbers are too large, if there is a size from which on all is wrong."""
    right, wrong = (
        [r.facts[key] for r in court.results if bool(r.wrong) is w] for w in (False, True)
    )
    if right and wrong and max(right) < min(wrong):
        said = f"{name} holds numbers beyond {max(right):.3g}"
        yield Description(key, said, lambda facts: facts[key] > max(right))


def _pair(a: Group, b: Group, court: Court) -> tuple[str, str]:
    """Return what two groups are called: by axes of one input, if they have some."""
    names = court.subject.names
    same = [(x, y) for x in a for y in b if x.number == y.number]
    one, other = same[0] if same else (a[0], b[0])
    said = named(one, names, court.inputs)
    return (said.partition(" of ")[0] if same else said), named(other, names, court.inputs)


def _of_length(court: Court, group: Group) -> Iterator[Description]:
    about = ("length", group)
    name = named(group[0], court.subject.names, court.inputs)
    tried = lengths(court.results, group)

    def condition(said: str, holds: Callable[[int], bool], *, single: bool = False) -> Description:
        return Description(about, f"{name} is {said}", _where(about, holds), single)

    for n in dict.fromkeys((1, court.size(group))):
        said = "longer than 1" if n == 1 else f"not {n}"
        yield condition(said, partial(operator.ne, n), single=True)
        yield condition(f"{n}", partial(operator.eq, n), single=True)
    for m in (2**e for e in range(1, 11)):
        for whole, words in (
            (False, ("odd", "not a multiple of")),
            (True, ("even", "a multiple of")),
        ):
            said = words[0] if m == 2 else f"{words[1]} {m}"
            yield condition(said, partial(_is_multiple, m, whole))
    yield condition("not a power of 2", lambda k: k & (k - 1) != 0)
    for below, above in pairwise(tried):
        if above == below + 1:
            yield condition(f"longer than {below}", partial(operator.lt, below))
            yield condition(f"shorter than {above}", partial(operator.gt, above))


def _where(key: tuple[Any, ...], holds: Callable[[Any], bool]) -> Callable[[Facts], bool]:
    return lambda facts: holds(facts[key])


def _is_multiple(m: int, whole: bool, k: int) -> bool:
    return (k % m == 0) is whole


def _equal(a: Group, b: Group, shortest: int, wanted: bool, facts: Facts) -> bool:
    return (facts["length", a] == facts["length", b] >= shortest) is wanted


def _examples(court: Court, description: Description) -> str:
    right, wrong = ([r for r in court.results if bool(r.wrong) is w] for w in (False, True))
    if description.about[0] == "largest":
        beyond = min(result.facts[description.about] for result in wrong)
        return f"wrong from {beyond:.3g} on"
    if description.about[0] != "length":
        return f"right in {several(len(right), 'trial', 'trials')}, wrong in {len(wrong)}"
    good, bad = (lengths(side, description.about[1]) for side in (right, wrong))
    return f"right at {_nearest(good, bad)}; wrong at {_nearest(bad, good)}"


def _nearest(these: Sequence[int], others: Sequence[int]) -> str:
    """Return the lengths next to the other ones, in order."""
    by_distance = sorted(these, key=lambda n: min(abs(n - other) for other in others))
    return ", ".join(map(str, sorted(by_distance[:_LISTED])))
