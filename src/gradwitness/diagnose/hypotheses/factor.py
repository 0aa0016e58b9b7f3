"""Mistake: a constant factor, on one tensor, everything behind a step, or all gradients."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, fits, jointly, refuted
from gradwitness.diagnose.factor_names import FACTOR, Meaning, by_numbers, meanings
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

COMPOUNDING = "factor of every layer"
_NEAR = 1e-3  # relative distance of fitted factors that may be the same


def constant_factor(case: Case) -> Iterator[Explanation]:
    """Suppose h = s g with the same s for one tensor or more."""
    facts = Facts(case)
    remaining = [e for e in refuted(case) if slope(e) not in (0.0, None)]
    remaining.sort(key=lambda e: e.witness.size)
    while remaining:
        lead = remaining.pop()
        factor = slope(lead)
        if factor is None or not fits(lead, factor * lead.witness):
            continue
        # A gradient that is zero within rounding is noise, and its slope arbitrary.
        same_factor = [lead] + [
            e
            for e in remaining
            if abs((slope(e) or 0) / factor - 1) < _NEAR or fits(e, factor * e.witness)
        ]
        yield from _explained(case, facts, same_factor, factor)
        remaining = [e for e in remaining if e not in same_factor]


def compounding_factor(case: Case) -> Iterator[Explanation]:
    """Suppose h = r^k g, k layers behind the loss: each layer multiplies by r once more."""
    order = [case.exhibits[name] for name in Facts(case).order]
    slopes = [(e, slope(e)) for e in order]
    multiples = [(e, s) for e, s in slopes if s is not None and s > 0 and fits(e, s * e.witness)]
    if len(multiples) < len(order):
        return
    levels: list[tuple[float, list[Exhibit]]] = []
    for exhibit, s in multiples:
        if not levels or abs(s / levels[-1][0] - 1) > _NEAR:
            levels.append((s, []))
        levels[-1][1].append(exhibit)
    if len(levels) < 3:
        return
    (deepest, last), (first, _) = levels[-1], levels[0]
    ratio = (deepest / first) ** (1 / (len(levels) - 1))
    if abs(ratio - 1) < _NEAR:
        return  # one factor for all, and some noise
    matches = partial(_powers_fit, levels, first)
    ratio_names = meanings(ratio, {}, (), everywhere=False, matches=matches)
    best = ratio_names[0].value if ratio_names else ratio
    if not matches(best):
        return
    predicted = {
        e.name: first * best**k * e.witness for k, (_, es) in enumerate(levels) for e in es
    }
    yield Explanation(
        COMPOUNDING,
        f"Each layer towards the input multiplies the gradient by {best:.6g} once more: at "
        f"{listed([e.name for e in last])} the factor is {deepest:.6g}. Look at what is repeated "
        "between the layers, such as the activation's derivative.",
        {name: p for name, p in predicted.items() if case.exhibits[name].refuted},
        coefficient=best,
        place=next(e.name for e in order if e.refuted),
        freedom=ratio_names[0].tried if ratio_names else REAL,
    )


def slope(exhibit: Exhibit) -> float | None:
    """Return the factor s for which s g is nearest to the claim, or None.

    That is by least squares, but within rounding at every number, if any factor is.
    """
    g, h = exhibit.witness, exhibit.claim
    if g.shape != h.shape:
        return None
    scale = float(np.max(np.abs(g), initial=0.0))
    if not scale or not np.isfinite(h).all():
        return None
    g = g / scale  # so that no square underflows
    factor = float(np.vdot(g, h) / np.vdot(g, g))
    allowance = np.broadcast_to(exhibit.allowance, g.shape) * max(1.0, abs(factor) / scale)
    ends = np.stack([h - allowance, h + allowance])[:, g != 0] / g[g != 0]
    low, high = float(ends.min(axis=0).max()), float(ends.max(axis=0).min())
    return ((low + high) / 2 if not low <= factor <= high and low <= high else factor) / scale


def _powers_fit(levels: list[tuple[float, list[Exhibit]]], first: float, ratio: float) -> bool:
    return all(
        fits(e, first * ratio**k * e.witness) for k, (_, es) in enumerate(levels) for e in es
    )


def _explained(
    case: Case, facts: Facts, members: list[Exhibit], factor: float
) -> Iterator[Explanation]:
    names = [n for n in facts.order if n in {e.name for e in members}]
    subject, place, everywhere = _extent(case, facts.order, names)
    if case.alone is not None:
        # What multiplies all gradients of a program does so elsewhere.
        subject, place, everywhere = f"The gradient of {listed(names)}", "", False

    def matches(value: float) -> bool:
        return fits(members[0], value * members[0].witness)

    sizes = tuple(itertools.chain.from_iterable(e.witness.shape for e in members))
    factor_names = meanings(
        factor,
        facts.counts,
        sizes,
        everywhere=everywhere,
        matches=matches,
        alone=case.alone is not None,
        averages=facts.averages,
        squares=facts.squares,
    )
    numbers = case.alone.numbers if case.alone else ()
    factor_names = [*by_numbers(factor, numbers, matches), *factor_names]
    if not factor_names:
        text = "No common mistake has this factor."
        factor_names = [Meaning(factor, FACTOR, text, REAL)]
    alternatives = 0 if everywhere or case.alone else len(facts.order)
    for meaning in factor_names:
        if everywhere and facts.rules_out(meaning.cause):
            continue
        value = meaning.value
        predicted = jointly(members, lambda e, value=value: value * e.witness)  # type: ignore[misc]
        yield Explanation(
            meaning.cause,
            f"{subject} is {_figure(value)} times what it should be. {meaning.text}",
            predicted,
            coefficient=value,
            place=place,
            freedom=meaning.tried + alternatives,
            reveals=meaning.reveals,
        )


def _figure(value: float) -> str:
    return f"{value:.7g}"


def _extent(case: Case, order: Sequence[str], names: list[str]) -> tuple[str, str, bool]:
    """Return a description of the gradients with a factor, its place, and whether all have it."""
    informative = [n for n in order if not _is_uninformative(case.exhibits[n])]
    if names == informative:
        return "Every gradient" if len(names) > 1 else f"The gradient of {names[0]}", "", True
    rest = [case.exhibits[n] for n in informative if n not in names]
    if len(names) > len(rest) and all(e.refuted for e in rest):
        # A factor behind a step leaves earlier gradients right. Here none is: all have the factor.
        return f"Every gradient except {listed([e.name for e in rest])}", "", True
    if len(names) > 1 and names == informative[-len(names) :]:
        previous = informative[-len(names) - 1]
        text = f"Everything behind {previous} (from {names[0]} on towards the input)"
        return text, names[0], False
    return f"The gradient of {listed(names)}", names[0] if len(names) == 1 else "", False


def _is_uninformative(exhibit: Exhibit) -> bool:
    """Whether a tensor fits any factor, because it is right and zero within rounding."""
    zero: NDArray[np.bool_] = np.abs(exhibit.witness) <= exhibit.allowance
    return not exhibit.refuted and bool(zero.all())
