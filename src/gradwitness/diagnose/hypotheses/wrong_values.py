"""Mistake: a local derivative is taken at another value, left out, or applied once more."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

WRONG_VALUE = "wrong value in the derivative"
TRANSPOSED = "factor transposed in the derivative"
LEFT_OUT = "derivative of a step left out"
AGAIN = "derivative of a step applied twice"
POWER = "wrong power in the derivative"
UNSCALED, SCALED_TWICE = "scale left out in backward", "scale applied twice"
_SCALES = aten("mul div")

_MOST = 200  # replacements that are tried
_VIEWS = frozenset(
    f"aten.{n}" for n in ["view", "t", "transpose", "permute", "expand", "squeeze", "unsqueeze"]
)


@on_replay
def wrong_values(trial: Trial) -> Iterator[Explanation]:
    """Explain by one of the forward's values in the place of another of the same shape."""
    tape = trial.tape
    names = {leaf.id: leaf.name for _, leaf in tape.leaves()}
    known = {n: trial.lookup(n) for n in names}
    known |= {n: trial.lookup(n) for c in tape.calls for n in c.outputs if n is not None}
    tried = 0
    for site in trial.sites():
        if site.op in _VIEWS:
            continue
        own = {name: n for name, n in site.numbers.items() if name in _read(site)}
        for operand, right in own.items():
            value = np.asarray(site.operands[operand])
            if value.ndim < 2 or value.shape[-1] != value.shape[-2]:
                continue

            def turned(visit: Visit, name: str = operand, value: Any = value) -> list[Any]:
                return visit.again(visit.g, **{name: np.swapaxes(value, -1, -2)})

            text = (
                f"the derivative of {_called(site)} at {site.place} is taken with "
                f"{_origin(trial, names, right)} transposed, or without its transpose"
            )
            yield from trial.explained(
                TRANSPOSED, text, [(site, turned)], place=site.place, node=site.node.id, freedom=3
            )
        for (operand, right), other in itertools.product(own.items(), known):
            own_value = np.asarray(site.operands[operand])
            same = other != right and known[other].shape == own_value.shape
            if not same or tried > _MOST or np.array_equal(known[other], own_value):
                continue
            tried += 1

            def wrong(visit: Visit, name: str = operand, value: Any = known[other]) -> list[Any]:
                return visit.again(visit.g, **{name: value})

            text = (
                f"the derivative of {_called(site)} at {site.place} is taken with "
                f"{_origin(trial, names, other)} in the place of {_origin(trial, names, right)}"
            )
            yield from trial.explained(
                WRONG_VALUE,
                text,
                [(site, wrong)],
                place=site.place,
                node=site.node.id,
                freedom=4 + tried,
            )


@on_replay
def wrong_derivatives(trial: Trial) -> Iterator[Explanation]:
    """Explain by a step whose derivative is left out, applied twice, or of another power."""
    for site in trial.sites():
        edges = [k for k, edge in enumerate(site.node.edges) if edge is not None]
        if site.op in _VIEWS or len(edges) != 1:
            continue
        (edge,) = edges
        name = site.names[edge]
        if np.shape(site.operands[name]) != np.shape(site.y):
            continue

        def left_out(visit: Visit, edge: int = edge) -> list[Any]:
            return visit.sending(visit.g, edge)

        def twice(visit: Visit, edge: int = edge, name: str = name) -> list[Any]:
            return visit.sending(visit.site.vjp(name, visit.sent[edge]), edge)

        def powers(
            visit: Visit, edge: int = edge, name: str = name, times: int = 1, of: str = "y"
        ) -> list[Any]:
            base = visit.site.y if of == "y" else visit.site.operands[name]
            return visit.sending(visit.sent[edge] * np.asarray(base, float) ** times, edge)

        step = f"{_called(site)} at {site.place}"
        scales = site.op in _SCALES and any(
            np.ndim(operand) == 0 for k, operand in site.operands.items() if k != name
        )
        left, again = (UNSCALED, SCALED_TWICE) if scales else (LEFT_OUT, AGAIN)
        tries: list[tuple[str, str, Any]] = [
            (left, f"the derivative of {step} is left out", left_out),
            (again, f"the derivative of {step} is multiplied in twice", twice),
        ]
        for of, times in (("y", 1), ("y", -1), ("x", 1), ("x", -1)):
            side, what = ("often", "result") if times > 0 else ("seldom", "result")
            what = what if of == "y" else "argument"
            text = f"the derivative of {step} is multiplied by its {what} once too {side}"

            def power(visit: Visit, times: int = times, of: str = of) -> list[Any]:
                return powers(visit, times=times, of=of)

            tries.append((POWER, text, power))
        for tried, (cause, text, wrong) in enumerate(tries, 1):
            yield from trial.explained(
                cause,
                text,
                [(site, wrong)],
                place=site.place,
                node=site.node.id,
                freedom=1 + tried,
            )


def _read(site: Site) -> set[str]:
    """Return the operands that a step's derivatives read."""
    return set(site.rule.kept)


def _called(site: Site) -> str:
    return site.op.partition(".")[2]


def _origin(trial: Trial, names: dict[int, str], number: int) -> str:
    """Return what a value is called: an input's name, or the step that made it."""
    if number in names:
        return names[number]
    call = trial.makers.get(number)
    if call is None:
        return "a constant"
    return f"the result of {call.base_op.partition('.')[2]} ({call.source.line.rpartition('/')[2]})"
