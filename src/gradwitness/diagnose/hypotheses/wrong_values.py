"""Mistake: a local derivative is taken at another value, left out, or applied once more."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, refuted
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay
from gradwitness.engine.backward import unbroadcast
from gradwitness.engine.forward import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.replayed_faults import Site, Visit

WRONG_VALUE = "wrong value in the derivative"
OVERWRITTEN = "saved tensor overwritten"
TRANSPOSED = "factor transposed in the derivative"
FLIPPED = "factor flipped in the derivative"
LEFT_OUT = "derivative of a step left out"
AGAIN = "derivative of a step applied twice"
POWER = "wrong power in the derivative"
TOO_MANY, TOO_FEW = "a factor too many", "a factor missing"
UNSCALED, SCALED_TWICE = "scale left out in backward", "scale applied twice"
_SCALES = aten("mul div")

_MOST = 200  # replacements that are tried
_VIEWS = frozenset(
    f"aten.{n}" for n in ["view", "t", "transpose", "permute", "expand", "squeeze", "unsqueeze"]
)


@on_replay
def wrong_values(trial: Trial) -> Iterator[Explanation]:
    """Explain by one of the forward's values in the place of another of the same shape."""
    known = _values(trial)
    tried = 0
    for site in trial.sites():
        for name, number, right in () if site.op in _VIEWS else _read(site):
            of = f"the derivative of {_called(site)} at {site.place} is taken with"
            own = origin(trial, number)
            for what, value in _overwritten(trial, site, name, number):
                said = f"{of} {what} as it is after its memory was overwritten: save a copy of it"
                yield from _with(trial, site, name, value, OVERWRITTEN, said, 1)
            if right.ndim > 1 and right.shape[-1] == right.shape[-2]:
                said = f"{of} {own} transposed, or without its transpose"
                turned = np.swapaxes(right, -1, -2)
                yield from _with(trial, site, name, turned, TRANSPOSED, said, 3)
            for axis in range(right.ndim) if trial.origin(number) not in trial.makers else ():
                said = f"{of} {own} flipped along axis {axis}, or not flipped where it has to be"
                yield from _with(trial, site, name, np.flip(right, axis), FLIPPED, said, 4)
            for other, value in known.items():
                same = other != number and value.shape == right.shape
                if same and tried < _MOST and not np.array_equal(value, right):
                    tried += 1
                    said = f"{of} {origin(trial, other)} in the place of {own}"
                    yield from _with(trial, site, name, value, WRONG_VALUE, said, 4 + tried)


def _overwritten(trial: Trial, site: Site, name: str, number: int) -> Iterator[tuple[str, Any]]:
    """Yield what a derivative reads if memory was overwritten: a value, or a result made anew."""
    later = trial.case.alone.later if trial.case.alone else {}
    if number in later:
        yield origin(trial, number), later[number]
    changed = {k: later[n] for k, n in site.numbers.items() if n in later}
    if name == "y" and changed:
        operands = {**site.operands, **changed}
        made = run("the forward", site.rule.function, *operands.values(), **site.parameters)
        yield listed([origin(trial, site.numbers[k]) for k in changed]), np.asarray(made)


def _values(trial: Trial) -> dict[int, Any]:
    """Return the inputs and results of the forward's steps."""
    tape = trial.tape
    numbers = [leaf.id for _, leaf in tape.leaves()]
    numbers += [n for c in tape.calls for n in c.outputs if n is not None]
    return {n: np.asarray(trial.lookup(n)) for n in numbers}


def _read(site: Site) -> Iterator[tuple[str, int, Any]]:
    """Yield what a step's derivatives read: the name in their formula, the number, the value."""
    for name in site.rule.kept:
        is_result = name in ("y", "y[0]")
        number = site.call.outputs[0] if is_result else site.numbers.get(name)
        if number is not None and (len(site.results) == 1 or is_result):
            yield name, number, np.asarray(site.y if is_result else site.operands[name])


def _with(
    trial: Trial, site: Site, name: str, value: Any, cause: str, text: str, freedom: int
) -> Iterator[Explanation]:
    changed = {"y": (value, *site.results[1:])} if name == "y[0]" else {name: value}

    def wrong(visit: Visit) -> list[Any]:
        return visit.again(visit.g, **changed)

    yield from trial.explained(
        cause, text, [(site, wrong)], place=site.place, node=site.node.id, freedom=freedom
    )


@on_replay
def wrong_derivatives(trial: Trial) -> Iterator[Explanation]:
    """Explain by a step whose derivative is left out, applied twice, or of another power."""
    for site in trial.sites():
        edges = [k for k, edge in enumerate(site.node.edges) if edge is not None]
        for edge in () if site.op in _VIEWS else edges:
            operand = site.operands[site.names[edge]]
            if isinstance(operand, tuple) or not _reaches(np.shape(operand), np.shape(site.y)):
                continue
            for tried, (cause, text, sent) in enumerate(_other_derivatives(site, edge), 1):

                def wrong(visit: Visit, sent: Any = sent, edge: int = edge) -> list[Any]:
                    return visit.sending(sent(visit), edge)

                said = f"the derivative of {_called(site)} at {site.place} is {text}"
                yield from trial.explained(
                    cause,
                    said,
                    [(site, wrong)],
                    place=site.place,
                    node=site.node.id,
                    freedom=4 + tried * len(edges),
                )


@on_replay
def wrong_factors(trial: Trial) -> Iterator[Explanation]:
    """Explain by one of the forward's values that is a factor of a gradient once too often."""
    for tried, (number, value) in enumerate(_values(trial).items(), 1):
        if value.dtype.kind != "f" or (np.ptp(value) == 0 and not _is_learned(trial, number)):
            continue
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for exhibit in refuted(trial.case):
            for cause, predicted in _multiplied(exhibit.witness, value):
                if fits(exhibit, predicted):
                    found[cause][exhibit.name] = predicted
        for cause, predictions in found.items():
            how = "twice" if cause == TOO_MANY else "not at all"
            text = f"{origin(trial, number)} is there {how} as a factor of the gradient"
            yield Explanation(
                cause,
                f"{text} of {listed(predictions)}",
                predictions,
                freedom=2 + tried,
                reveals=False,
            )


def _is_learned(trial: Trial, number: int) -> bool:
    """Whether a value is an input that is a number: other equal factors are told as numbers."""
    return any(leaf.id == number and not leaf.shape for _, leaf in trial.tape.leaves())


def _multiplied(g: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a gradient with a factor too many, and one without it, if the shapes allow that."""
    try:
        if np.broadcast_shapes(g.shape, value.shape) != g.shape:
            return
    except ValueError:
        return
    yield TOO_MANY, g * value
    yield TOO_FEW, np.divide(g, value, out=np.full(g.shape, np.nan), where=value != 0)


def _other_derivatives(site: Site, edge: int) -> Iterator[tuple[str, str, Any]]:
    """Yield causes, texts, and what a visit then sends along the only edge."""
    name = site.names[edge]
    others = [operand for k, operand in site.operands.items() if k != name]
    scales = site.op in _SCALES and any(np.ndim(operand) == 0 for operand in others)
    left_out, again = (UNSCALED, SCALED_TWICE) if scales else (LEFT_OUT, AGAIN)
    shape = np.shape(site.operands[name])
    yield left_out, "left out", lambda visit: unbroadcast(visit.g, shape)
    if shape != np.shape(site.y):
        return
    yield again, "multiplied in twice", lambda visit: site.vjp(name, visit.sent[edge])
    if not {name, "y", "y[0]"}.intersection(site.rule.kept):
        return  # a step that is linear has no power of its argument in its derivative
    for what, value in (("result", site.y), ("argument", site.operands[name])):
        base = np.asarray(value, np.float64)
        often = f"multiplied by its {what} once too often"
        yield POWER, often, lambda visit, base=base: visit.sent[edge] * base
        seldom = f"multiplied by its {what} once too seldom"
        yield POWER, seldom, lambda visit, base=base: visit.sent[edge] / base


def _reaches(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether an operand has the shape of a result, or is broadcast to it."""
    return shape == full or (math.prod(shape) > 1 and _broadcast(shape, full) == full)


def _broadcast(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(shape, full)
    except ValueError:
        return ()


def _called(site: Site) -> str:
    return site.op.partition(".")[2]


def origin(trial: Trial, number: int) -> str:
    """Return what a value is called: an input's name, or the step that made it."""
    call = trial.makers.get(number)
    if call is None or call.base_op == "aten.lift_fresh":
        return trial.tape.values[number].name or "a constant"
    return f"the result of {call.base_op.partition('.')[2]} ({call.source.line.rpartition('/')[2]})"
