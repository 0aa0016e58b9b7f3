"""Mistake: the gradient is that of a function nearby: without a step, or with other numbers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.wrong_masks import IGNORED
from gradwitness.diagnose.hypotheses.wrong_values import origin
from gradwitness.diagnose.programs import changed_tape, explained_by_calls, predicted_by
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit
    from gradwitness.tape import Argument, Call, Tape

    # A cause, a text, the steps that it is about, and the gradients.
    Try = tuple[str, str, list[Call], Mapping[str, Any]]

WITHOUT = "gradient of the function without a step"
NUMBER = "gradient of the function without a number"
EXCHANGED = "two numbers exchanged"

_MOST = 64  # functions that are tried: each is replayed as a whole
# Numbers of these steps, and what they are if they are forgotten.
_NEUTRAL: Mapping[str, tuple[float, ...]] = {"mul": (1.0,), "div": (1.0,), "pow": (1.0, 0.0)}
_FREEDOM = 16  # a mistake at a single derivative is likelier


@on_replay
def nearby_functions(trial: Trial) -> Iterator[Explanation]:
    """Explain by the right gradient of a function that differs in a step or a number."""
    tries = itertools.islice(
        itertools.chain(_numbers(trial), _weights(trial), _steps(trial)), _MOST
    )
    for tried, (cause, text, calls, predicted) in enumerate(tries, 1):
        for explanation in explained_by_calls(cause, text, calls, predicted):
            yield replace(explanation, freedom=_FREEDOM + tried)


def _steps(trial: Trial) -> Iterator[Try]:
    for site in trial.sites():
        if site.call.is_view or site.call.writes or len(site.results) > 1:
            continue
        for edge, name in enumerate(site.names):
            kept, wanted = site.operands[name], site.node.edges[edge]
            if wanted is None or isinstance(kept, tuple) or np.shape(kept) != np.shape(site.y):
                continue
            if trial.gives_up(site.node.id):
                return

            def passed(visit: Visit, edge: int = edge) -> list[Any]:
                return [visit.g if k == edge else None for k in range(len(visit.sent))]

            predicted = predicted_by(trial, _without(trial.tape, site, name))
            # If no other derivative depends on it, its own is left out, or a term: told elsewhere.
            if not _same(predicted, trial.with_mistakes([(site, passed)])):
                said = f"the gradient is that of the function without {_called(site.call)} at"
                yield WITHOUT, f"{said} {{place}}", [site.call], predicted


def _same(predicted: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return predicted.keys() == other.keys() and all(
        np.allclose(g, other[name], rtol=1e-9) for name, g in predicted.items()
    )


def _without(tape: Tape, site: Site, kept: str) -> Tape:
    """Return a program in which a step passes one of its operands on."""
    calls, nodes = list(tape.calls), list(tape.nodes)
    passed: dict[str, Argument] = {"self": Ref(site.numbers[kept]), "memory_format": None}
    calls[site.call.id] = replace(site.call, op="aten.clone.default", arguments=passed)
    edge = site.node.edges[site.names.index(kept)]
    nodes[site.node.id] = replace(site.node, edges=(edge,))
    return replace(tape, calls=calls, nodes=nodes)


def _numbers(trial: Trial) -> Iterator[Try]:
    uses: dict[float, list[tuple[Call, str]]] = defaultdict(list)
    for call in trial.tape.calls:
        for name in ("other", "exponent") if _called(call) in _NEUTRAL else ():
            value = _value(trial, call.arguments.get(name))
            if value is not None and value not in (0.0, 1.0, -1.0):
                uses[value].append((call, name))
    each = [(value, [use]) for value, at in uses.items() if len(at) > 1 for use in at]
    for value, at in [*uses.items(), *each]:
        calls = [call for call, _ in at]
        for neutral in sorted({n for call in calls for n in _NEUTRAL[_called(call)]}, reverse=True):
            said = f"the gradient is that of the function with {neutral:g} in the place of"
            yield NUMBER, f"{said} {value:.6g} at {{place}}", calls, _with(trial, {neutral: at})
    for (a, of_a), (b, of_b) in itertools.combinations(uses.items(), 2):
        said = f"the gradient is that of the function with {a:.6g} and {b:.6g} exchanged"
        calls = [call for call, _ in (*of_a, *of_b)]
        yield EXCHANGED, f"{said} at {{place}}", calls, _with(trial, {b: of_a, a: of_b})


def _weights(trial: Trial) -> Iterator[Try]:
    """Yield what follows with ones in the place of a tensor through which no gradient flows."""
    uses: dict[int, list[tuple[Call, str]]] = defaultdict(list)
    for call in trial.tape.calls:
        for name, argument in call.arguments.items():
            if isinstance(argument, Ref) and not call.is_view:
                uses[argument.value].append((call, name))
    felt = {n for site in trial.sites() for n in site.call.outputs}
    felt |= {leaf.id for _, leaf in trial.tape.leaves()}
    for number, at in uses.items():
        value, calls = np.asarray(trial.lookup(number)), [call for call, _ in at]
        if number not in felt and value.ndim and value.dtype.kind == "f" and np.ptp(value):
            ones = {c.id: {name: np.ones(value.shape)} for c, name in at}
            said = "the gradient is that of the function with ones in the place of"
            told = predicted_by(trial, changed_tape(trial.tape, ones))
            kept = value[value != 0]
            is_mask = 0 < kept.size < value.size and np.ptp(kept) == 0
            yield (
                IGNORED if is_mask else NUMBER,
                f"{said} {origin(trial, number)} at {{place}}",
                calls,
                told,
            )


def _value(trial: Trial, argument: Argument) -> float | None:
    """Return the number that an argument is, or a constant without axes."""
    if isinstance(argument, Ref):
        value = trial.tape.values[argument.value]
        is_one = (
            value.shape == () and not value.requires_grad and argument.value not in trial.makers
        )
        return float(np.asarray(trial.lookup(argument.value))) if is_one else None
    return float(argument) if isinstance(argument, int | float) else None


def _with(trial: Trial, numbers: Mapping[float, list[tuple[Call, str]]]) -> Mapping[str, Any]:
    changes: dict[int, dict[str, Any]] = {}
    for number, uses in numbers.items():
        for call, name in uses:
            was = call.arguments[name]
            changes[call.id] = {name: np.array(number) if isinstance(was, Ref) else number}
    return predicted_by(trial, changed_tape(trial.tape, changes))


def _called(call: Call) -> str:
    return call.base_op.partition(".")[2]
