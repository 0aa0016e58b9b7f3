"""Which axes of a function's inputs change their length together."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.fuzz.drawn import Drawn, resized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.judging.fuzz.drawn import Subject

# Axes of one length: more are not told apart.
_MOST = 8
# Numbers of the inputs that trials begin with, together.
ROOM = 2**15


class Axis(NamedTuple):
    """An axis of an input."""

    number: int
    axis: int


# Axes that have to have the same length.
Group = tuple[Axis, ...]
Inputs = dict[int, Drawn]


def changed(
    inputs: Mapping[int, Drawn], sizes: Mapping[Axis, int], rng: np.random.Generator
) -> Inputs:
    """Return inputs with some axes of other lengths."""
    shapes = {number: list(drawn.array.shape) for number, drawn in inputs.items()}
    shorter = 0
    for (number, axis), size in sizes.items():
        if size < shapes[number][axis]:
            shorter = min(shorter or size, size)
        shapes[number][axis] = size
    return {
        number: Drawn(resized(drawn.array, tuple(shapes[number]), rng, shorter), drawn.memory)
        for number, drawn in inputs.items()
    }


def reduced(subject: Subject, rng: np.random.Generator) -> Inputs:
    """Return inputs of a size that many trials have time for: their own, or smaller ones.

    Raises
    ------
    Unjudgeable
        If there are none.
    """
    inputs = dict(subject.given)
    while sum(drawn.array.size for drawn in inputs.values()) > ROOM:
        by_size = _by_size(inputs)
        size = max(by_size)
        # Nothing is said of two lengths that become equal.
        smaller = [n for n in (64 + size % 64, size // 2) if n < size and n not in by_size]
        if size < 4 or not smaller:
            raise Unjudgeable("its inputs are too large, and cannot be made smaller")
        inputs = changed(inputs, dict.fromkeys(by_size[size], smaller[0]), rng)
    return inputs


def groups(subject: Subject, inputs: Inputs, rng: np.random.Generator) -> list[Group]:
    """Return the axes that can change their length, each with those that must follow it.

    Axes of one length may have it by accident: the fewest that the function lets change together
    belong together.
    """

    def runs(axes: Group, size: int) -> bool:
        try:
            longer = changed(inputs, dict.fromkeys(axes, size + 1), rng)
            results = subject.forward(longer)
        except Unjudgeable:
            return False
        return all(r is None or np.isfinite(r).all() for r in results)

    found: list[Group] = []
    for size, axes in _by_size(inputs).items():
        left = axes[:_MOST]
        for count in (1, 2):
            for together in combinations(left, count):
                if count < len(left) and {*together} <= {*left} and runs(together, size):
                    found.append(together)
                    left = [axis for axis in left if axis not in together]
        if left and runs(tuple(left), size):
            found.append(tuple(left))
    return sorted(found)


def _by_size(inputs: Mapping[int, Drawn]) -> dict[int, list[Axis]]:
    by_size: dict[int, list[Axis]] = defaultdict(list)
    for number, drawn in inputs.items():
        for axis, size in enumerate(drawn.array.shape):
            by_size[size].append(Axis(number, axis))
    return by_size


def named(at: Axis, names: Mapping[int, str], inputs: Mapping[int, Drawn]) -> str:
    """Return what an axis is called."""
    rank = inputs[at.number].array.ndim
    places = {rank - 1: "the last axis", 0: "the first axis"}
    place = places.get(at.axis, f"axis {at.axis}") if rank > 1 else "the length"
    return f"{place} of {names[at.number]}"
