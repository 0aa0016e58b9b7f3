"""What a function that leaves its input as it is may make of the gradient, on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.custom.exhibit import Exhibit, Surrogate
from gradwitness.judging.custom.surrogate_shapes import NEAR, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def changes_of(exhibit: Exhibit) -> Iterator[Surrogate]:
    """Yield the formulas that fit, the plainest first: numbers that forward was given, then own."""
    if not exhibit.sent.any():
        yield _stopped(exhibit)
    elif exhibit.g.shape == exhibit.sent.shape:
        found = [*_scaled(exhibit), *_masked(exhibit), *_by_value(exhibit), *_by_norm(exhibit)]
        yield from sorted(found, key=_digits)


def _digits(surrogate: Surrogate) -> tuple[bool, int]:
    """Return how far a formula is from one without numbers of its own."""
    digits = sum(map(str.isdigit, surrogate.text))
    return surrogate.tolerance > 0, 0 if surrogate.reads else digits


def _stopped(exhibit: Exhibit) -> Surrogate:
    by = next((name for name, number in exhibit.scalars.items() if not number), None)
    if by is None:
        code = f"np.zeros_like({exhibit.name})"
        return Surrogate("a stopped gradient", "0", code, (exhibit.name,))
    g = exhibit.g_name
    kind = f"a gradient scaled by {by}, which is 0 here and does not tell whether by -{by}"
    return Surrogate(kind, f"{by} {g}", f"{g} * {by}", (by,))


def _scaled(exhibit: Exhibit) -> Iterator[Surrogate]:
    g, name = exhibit.g, exhibit.g_name
    word, factor, reads = _word(float(np.sum(exhibit.sent * g) / np.sum(g * g)), exhibit.scalars)
    kind = "a gradient reversal" if factor < 0 else f"a gradient scaled by {word}"
    text, code = (
        (f"-{name}", f"-{name}") if word == "-1" else (f"{word} {name}", f"{name} * {word}")
    )
    yield from exhibit.fitting(kind, factor * g, text, code, reads)


def _masked(exhibit: Exhibit) -> Iterator[Surrogate]:
    for name, array in exhibit.tensors.items():
        kind = f"a gradient {'masked' if np.isin(array, (0, 1)).all() else 'scaled'} by {name}"
        g = exhibit.g_name
        text, code = f"{name} {g}", f"{g} * {name}"
        yield from exhibit.fitting(kind, array * exhibit.g, text, code, (name,), by_number=False)


def _by_value(exhibit: Exhibit) -> Iterator[Surrogate]:
    g, sent, name = exhibit.g, exhibit.sent, exhibit.g_name
    above, below = sent[sent < g], sent[sent > g]
    high = float(above.max()) if above.size else np.inf
    low = float(below.min()) if below.size else -np.inf
    # Where no number went beyond one end, it is taken to lie as far from 0 as the other.
    if not below.size and g.min() >= -high:
        low = -high
    elif not above.size and g.max() <= -low:
        high = -low
    least, low, reads = _word(low, exhibit.scalars)
    most, high, more = _word(high, exhibit.scalars)
    text = f"{name} clipped to [{least}, {most}]"
    ends = (
        w if np.isfinite(v) else w.replace("inf", "np.inf") for w, v in ((least, low), (most, high))
    )
    code = f"np.clip({name}, {', '.join(ends)})"
    expected = np.clip(g, low, high)
    reads = tuple(dict.fromkeys(reads + more))
    yield from exhibit.fitting("a gradient clipped by value", expected, text, code, reads)


def _by_norm(exhibit: Exhibit) -> Iterator[Surrogate]:
    g, name = exhibit.g, exhibit.g_name
    dims = g.ndim
    over = {"": tuple(range(dims))}
    if dims > 1:
        over["axis=-1"] = (dims - 1,)
    if dims > 2:
        over[f"axis={tuple(range(1, dims))}"] = tuple(range(1, dims))
    for said, axes in over.items():
        norm, of_sent = (
            np.sqrt(np.sum(a * a, axis=axes, keepdims=True)) for a in (g, exhibit.sent)
        )
        word, most, reads = _word(float(of_sent.max()), exhibit.scalars)
        summed = f"np.sum({name} * {name}{f', {said}, keepdims=True' if said else ''})"
        per = f" over {said}" if said else ""
        share = f"{word} / np.sqrt({summed})"
        yield from exhibit.fitting(
            "a gradient clipped by its norm",
            g * np.minimum(1, most / norm),
            f"{name} clipped to |{name}| <= {word}{per}",
            f"{name} * np.minimum(1, {share})",
            reads,
        )
        yield from exhibit.fitting(
            f"a gradient of norm {word}",
            g * most / norm,
            f"{word} {name} / |{name}|{per}".removeprefix("1 "),
            f"{name} * ({share})",
            reads,
        )


def _word(number: float, scalars: Mapping[str, float]) -> tuple[str, float, tuple[str, ...]]:
    """Return a number as forward was given it, or in few digits."""
    if not np.isfinite(number):
        return str(number), number, ()
    for name, given in scalars.items():
        ways = {name: given, f"-{name}": -given, f"1 / {name}": 1 / given if given else np.inf}
        for word, value in ways.items():
            if abs(value - number) <= NEAR * abs(number):
                return word, value, (name,)
    return (*short(number), ())
