"""Mistake: a mask that the forward applied is ignored, turned round, or taken from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Trial, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

IGNORED = "mask ignored in backward"
INVERTED = "mask turned round"
ANOTHER = "another mask"
UNSCALED = "scale left out in backward"


@on_replay
def masks(trial: Trial) -> Iterator[Explanation]:
    """Explain by a wrong mask at a step that lets only some numbers through."""
    for site in trial.sites():
        if site.call.is_view:
            continue
        for edge, wanted in enumerate(site.node.edges):
            if isinstance(site.operands[site.names[edge]], tuple):
                continue
            if wanted is not None and (factor := _factor(site, edge)) is not None:
                yield from _wrong(trial, site, edge, factor)
        if site.op == "aten.where" and len(site.names) == 2 and all(site.node.edges):
            yield from _other_sides(trial, site)


def _factor(site: Site, edge: int) -> Any:
    """Return what a step multiplies each number of a gradient by, if that is 0 or one number."""
    name = site.names[edge]
    y = np.asarray(site.y)
    if np.shape(site.operands[name]) != y.shape or len(site.results) > 2:
        return None
    with np.errstate(all="ignore"):
        factor = site.vjp(name, np.ones_like(y, dtype=np.float64))
    kept = factor[factor != 0]
    one = kept.size and np.ptp(kept) <= 1e-9 * abs(kept.flat[0])
    return factor if one and kept.size < factor.size else None


def _wrong(trial: Trial, site: Site, edge: int, factor: Any) -> Iterator[Explanation]:
    tries = [*_other_factors(trial, site, edge, factor)]
    scale = float(factor[factor != 0].flat[0])

    def by_gradient(visit: Visit) -> list[Any]:
        return visit.sending(np.where(visit.g > 0, visit.g * scale, 0.0), edge)

    for tried, (cause, text, instead) in enumerate(tries, 1):

        def wrong(visit: Visit, instead: Any = instead) -> list[Any]:
            return visit.sending(visit.g * instead, edge)

        yield from _at(trial, site, cause, text, wrong, tried)
    text = f"{_step(site)} is masked by the sign of the gradient"
    yield from _at(trial, site, ANOTHER, text, by_gradient, len(tries) + 1)


def _other_sides(trial: Trial, site: Site) -> Iterator[Explanation]:
    """Explain by another condition at a step that takes each number from one of two sides."""
    right = np.broadcast_to(site.operands["condition"], np.shape(site.y))
    tries = [(INVERTED, f"the condition of {_step(site)} is turned round", ~right)]
    for name, value in _others(trial, site):
        for sign, over in ((">", value > 0), ("<", value < 0)):
            if not np.array_equal(over, right):
                text = (
                    f"the condition of {_step(site)} is taken from another value: {name} {sign} 0"
                )
                tries.append((ANOTHER, text, over))
    text = f"the condition of {_step(site)} is taken from the sign of the gradient"
    for tried, (cause, said, condition) in enumerate([*tries, (ANOTHER, text, None)], 1):

        def wrong(visit: Visit, condition: Any = condition) -> list[Any]:
            over = visit.g > 0 if condition is None else condition
            return visit.again(visit.g, condition=over)

        yield from _at(trial, site, cause, said, wrong, tried)


def _at(
    trial: Trial, site: Site, cause: str, text: str, wrong: Any, freedom: int
) -> Iterator[Explanation]:
    yield from trial.explained(
        cause, text, [(site, wrong)], place=site.place, node=site.node.id, freedom=freedom
    )


def _step(site: Site) -> str:
    return f"{site.op.partition('.')[2]} at {site.place}"


def _other_factors(
    trial: Trial, site: Site, edge: int, factor: Any
) -> Iterator[tuple[str, str, Any]]:
    """Yield causes, texts, and what is multiplied in instead of a step's mask."""
    through, step = factor != 0, _step(site)
    scale = float(factor[through].flat[0])
    yield IGNORED, f"the mask of {step} is ignored: gradients pass everywhere", scale
    yield INVERTED, f"the mask of {step} is turned round", np.where(through, 0.0, scale)
    if abs(scale - 1) > 1e-9:
        kept = f"the scale {scale:.6g} of the numbers that {step} keeps is left out"
        yield UNSCALED, kept, np.where(through, 1.0, 0.0)
        yield IGNORED, f"mask and scale {scale:.6g} of {step} are ignored", 1.0
    x, y = np.asarray(site.operands[site.names[edge]]), np.asarray(site.y)
    for side, cut in (("lower", ~through & (x < y)), ("upper", ~through & (x > y))):
        if cut.any() and not np.array_equal(cut, ~through):
            yield IGNORED, f"the {side} bound of {step} is ignored", np.where(cut, scale, factor)
    for name, value in _others(trial, site):
        for sign, over in _signs(value, through):
            text = f"the mask of {step} is taken from another value: {name} {sign} 0"
            yield ANOTHER, text, np.where(over, scale, 0.0)


def _signs(value: Any, right: Any) -> Iterator[tuple[str, Any]]:
    """Yield the masks that a value's sign makes, without the right one and those that mask none."""
    for sign, over in ((">", value > 0), ("<", value < 0)):
        if over.any() and not over.all() and not np.array_equal(over, right):
            yield sign, over


def _others(trial: Trial, site: Site) -> Iterator[tuple[str, Any]]:
    """Yield the floating-point values of the forward in the shape of a step's result."""
    tape, shape = trial.tape, np.shape(site.y)
    named = [(leaf.name, leaf.id) for _, leaf in tape.leaves()]
    named += [
        (f"the result of {c.base_op.partition('.')[2]}", n)
        for c in tape.calls
        for n in c.outputs
        if n is not None
    ]
    for name, number in named[:24]:
        value = np.asarray(trial.lookup(number))
        if value.shape == shape and value.dtype.kind == "f":
            yield name, value
