"""Claims that are right for a different program than the one recorded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL
from gradwitness.diagnose.fitting import fitted
from gradwitness.diagnose.hypotheses.pool_conv_embedding import dropout_sites
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay, where
from gradwitness.engine.replay import replay
from gradwitness.engine.replay_steps import Steps
from gradwitness.tape import Ref, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.diagnose.replayed_faults import Site, Visit
    from gradwitness.tape import Argument, Call, Tape

    # By call: arguments to replace. An array becomes a new value.
    Changes = Mapping[int, Mapping[str, Argument | NDArray[Any]]]

_BATCH_NORM = "aten.native_batch_norm"
_SOFTMAXES = aten("_softmax _safe_softmax")
_ATTENTION = aten("_scaled_dot_product_flash_attention_for_cpu")
_PRODUCTS = aten("bmm baddbmm mm")
_WEIGHTED = aten("addmm mm convolution")
# Usual learning rates: no fit finds its way past a kink.
_STARTS = (1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0)
_HIDDEN = -1e4  # a mask adds this or less to a score to hide it


def changed_tape(tape: Tape, changes: Changes) -> Tape:
    """Return a program with other arguments in some calls."""
    values, calls = list(tape.values), list(tape.calls)
    for number, arguments in changes.items():
        changed = dict(calls[number].arguments)
        for name, argument in arguments.items():
            if not isinstance(argument, np.ndarray):
                changed[name] = argument
                continue
            kind = "bool" if argument.dtype == np.bool_ else "float64"
            values.append(Value(len(values), argument.shape, kind, argument))
            changed[name] = Ref(values[-1].id)
        calls[number] = dataclasses.replace(calls[number], arguments=changed)
        for output in calls[number].outputs[1:]:
            if output is None:
                continue
            values[output] = dataclasses.replace(values[output], layout=None)
            batch = changed.get("input")
            if "training" in arguments and isinstance(batch, Ref):
                # Only training saves the statistics of the batch.
                shape = values[batch.value].shape[1:2] if changed["training"] else (0,)
                values[output] = dataclasses.replace(values[output], shape=shape)
    return dataclasses.replace(tape, values=values, calls=calls)


def predicted_by(
    trial: Trial,
    tape: Tape,
    leaves: Mapping[int, NDArray[np.float64]] | None = None,
    steps: Steps | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return the gradients that differ in another program; empty if it cannot be replayed."""
    trial.effort.replayed(len(tape.calls) + len(trial.sweep.node_runs))
    try:
        other = replay(tape, leaves, steps or Steps())
    except ValueError:
        return {}  # a result no longer fits its memory
    if len(other.trusted) > len(trial.replay.trusted):
        return {}
    gradients = {}
    for node, leaf in trial.tape.leaves():
        exhibit = trial.case.exhibits.get(leaf.name)
        g = other.gradient(trial.case.sweep, node.id)
        if exhibit is None or g is None or g.shape != exhibit.witness.shape:
            continue
        change = np.abs(g - exhibit.witness)
        if np.any((change > exhibit.allowance) | np.isnan(change)):
            gradients[leaf.name] = np.array(g)
    return gradients


def explained_by_program(
    trial: Trial,
    cause: str,
    text: str,
    changes: dict[int, dict[str, Any]],
    *,
    singly: bool = True,
) -> Iterator[Explanation]:
    """Yield all changes together and, if ``singly``, each one alone."""
    tape = trial.tape
    sets = [[number] for number in changes] if singly else []
    sets += [list(changes)] if changes and list(changes) not in sets else []
    for chosen in sets:
        if len(sets) > 1 and len(chosen) == 1 and trial.gives_up(tape.calls[chosen[0]].node):
            continue
        other = changed_tape(tape, {number: changes[number] for number in chosen})
        calls = [tape.calls[number] for number in chosen]
        yield from explained_by_calls(cause, text, calls, predicted_by(trial, other))


def explained_by_calls(
    cause: str, text: str, calls: Sequence[Call], predicted: Mapping[str, NDArray[np.float64]]
) -> Iterator[Explanation]:
    """Yield what other calls predict, if they would show; ``{place}`` in the text is theirs."""
    if predicted:
        place = ", ".join(dict.fromkeys(where(call.source, call.base_op) for call in calls))
        node = calls[0].node if len(calls) == 1 else None
        yield Explanation(
            cause, text.format(place=place), predicted, place=place, node=node, reveals=False
        )


_STATISTICS = {
    True: "training mode, with the batch's own statistics,",
    False: "evaluation mode, with the running statistics,",
}


@on_replay
def train_or_eval(trial: Trial) -> Iterator[Explanation]:
    """Explain by batch norm or dropout in the other mode."""
    cause = "train/eval mismatch"
    for training in (True, False):
        recorded = "training" if training else "evaluation"
        text = (
            f"the claims are those of a batch norm in {_STATISTICS[not training]} at {{place}}; "
            f"the recorded one was in {recorded} mode"
        )
        changes: dict[int, dict[str, Any]] = {
            call.id: {"training": not training}
            for call in forward_calls(trial)
            if call.base_op == _BATCH_NORM
            and call.arguments["training"] is training
            and call.arguments["running_mean"] is not None
        }
        yield from explained_by_program(trial, cause, text, changes)
    dropouts: dict[int, dict[str, Any]] = {}
    for site in dropout_sites(trial):
        if site.op == "aten.native_dropout":
            dropouts[site.call.id] = {"train": False}
        else:
            dropouts[site.call.id] = _identity(site)
    yield from explained_by_program(
        trial,
        cause,
        "the claims are those of a network without the dropout at {place} (evaluation mode); the "
        "recorded one was in training mode",
        dropouts,
    )


def _identity(site: Site) -> dict[str, Any]:
    """Return arguments that turn the product with a mask into the identity."""
    masks = {site.numbers.get(name) for name in site.constants}
    return {
        name: np.ones_like(site.operands[site.constants[0]])
        for name, argument in site.call.arguments.items()
        if isinstance(argument, Ref) and argument.value in masks
    }


def forward_calls(trial: Trial) -> list[Call]:
    """Return the calls of the forward pass."""
    return [call for call in trial.tape.calls if call.during is None]


# Attention.


@on_replay
def attention_programs(trial: Trial) -> Iterator[Explanation]:
    """Explain by attention without its scale, or without its mask."""
    scales: dict[int, dict[str, Any]] = {}
    masks: dict[int, dict[str, Any]] = {}
    for call in forward_calls(trial):
        if call.base_op in _ATTENTION:
            scales[call.id] = {"scale": 1.0}
            if call.arguments.get("is_causal") or call.arguments.get("attn_mask") is not None:
                masks[call.id] = {"is_causal": False, "attn_mask": None}
        if call.base_op in _SOFTMAXES:
            for before in _scores(trial, call):
                unscaled, unmasked = _unscaled(trial, before), _unmasked(trial, before)
                scales |= {before.id: unscaled} if unscaled else {}
                masks |= {before.id: unmasked} if unmasked else {}
    yield from explained_by_program(
        trial,
        "attention scale missing",
        "the claims are those of attention without its scale 1 / sqrt(d) at {place}",
        scales,
    )
    yield from explained_by_program(
        trial,
        "attention mask ignored",
        "the claims are those of attention without its mask at {place}: every position attends to "
        "every other",
        masks,
    )


_PASSING = aten("mul div add masked_fill where expand clone _unsafe_view")


def _scores(trial: Trial, softmax: Call) -> list[Call]:
    """Return the calls between the scores' product and a softmax: scale, mask, views."""
    scores: dict[int, Call] = {}
    waiting = [(n, False) for a in softmax.arguments.values() for n in _refs(a)]
    while waiting:
        value, product_met = waiting.pop()
        call = trial.makers.get(value)
        if call is None or call.id in scores:
            continue
        if call.base_op in _PRODUCTS and not product_met:
            waiting += [(n, True) for a in call.arguments.values() for n in _refs(a)]
        elif call.is_view or call.base_op in _PASSING:
            scores[call.id] = call
            waiting += [(n, product_met) for a in call.arguments.values() for n in _refs(a)]
    return list(scores.values())


def _refs(argument: Argument) -> list[int]:
    return [argument.value] if isinstance(argument, Ref) else []


def _unscaled(trial: Trial, call: Call) -> dict[str, Any]:
    """Return arguments that turn the product with a number into the identity."""
    if call.base_op not in {"aten.mul", "aten.div"}:
        return {}
    for name, argument in list(call.arguments.items())[1:]:
        if isinstance(argument, float | int) and not isinstance(argument, bool):
            return {name: 1.0}
        for number in _refs(argument):
            if np.ndim(trial.lookup(number)) == 0:
                return {name: np.ones(())}
    return {}


def _unmasked(trial: Trial, call: Call) -> dict[str, Any]:
    """Return arguments with which a masking step hides no scores."""
    arguments = call.arguments
    if call.base_op == "aten.masked_fill" and isinstance(arguments["mask"], Ref):
        return {"mask": np.zeros_like(trial.lookup(arguments["mask"].value))}
    if call.base_op == "aten.where" and isinstance(arguments["condition"], Ref):
        other = arguments["other"]
        fills: list[Any] = [float(np.max(trial.lookup(n))) for n in _refs(other)]
        if all(isinstance(fill, float | int) and fill <= _HIDDEN for fill in fills or [other]):
            return {"condition": np.ones_like(trial.lookup(arguments["condition"].value))}
    if call.base_op == "aten.add":
        for name, argument in arguments.items():
            for number in _refs(argument):
                mask = trial.lookup(number)
                if np.any(mask <= _HIDDEN) and not trial.comes_from(number, _PRODUCTS):
                    return {name: np.zeros_like(mask, dtype=np.float64)}
    return {}


# Weights that were updated too early.


@on_replay
def updated_weights(trial: Trial) -> Iterator[Explanation]:
    """Explain by gradients at weights that were already updated."""
    right = {
        leaf.id: (np.asarray(trial.lookup(leaf.id)), trial.arriving(node.id))
        for node, leaf in trial.tape.leaves()
        if leaf.name in trial.case.exhibits
    }

    def predict(rate: float) -> dict[str, NDArray[np.float64]]:
        moved = {n: w - rate * g for n, (w, g) in right.items() if g is not None}
        return predicted_by(trial, *_started_from(trial.tape, moved))

    best = fitted(trial.case, predict, _STARTS)
    if best is not None:
        rate, predicted = best
        text = (
            f"the claims are the gradients at other weights: w - {rate:.4g} g, after a step of "
            f"gradient descent with learning rate {rate:.4g}"
        )
        yield Explanation("weights already updated", text, predicted, rate, freedom=REAL)
    yield from _updated_within(trial)


def _started_from(
    tape: Tape, weights: Mapping[int, NDArray[np.float64]]
) -> tuple[Tape, dict[int, NDArray[np.float64]]]:
    """Return a program with other weights; weights that it writes itself are overwritten."""
    values, calls = list(tape.values), list(tape.calls)
    makers = {n: call for call in tape.calls for n in call.outputs if n is not None}
    leaves = {}
    for number, array in weights.items():
        maker = makers.get(number)
        if maker is None or maker.is_view or len(maker.outputs) > 1:
            leaves[number] = array
            continue
        values.append(Value(len(values), array.shape, "float64", array))
        arguments: dict[str, Argument] = {"src": Ref(values[-1].id), "non_blocking": False}
        op = "aten.copy_.default"
        if maker.writes:
            arguments = {"self": maker.arguments[maker.writes[0]], **arguments}
        else:
            op, arguments = "aten.clone.default", {"self": arguments["src"], "memory_format": None}
        writes = ("self",) if maker.writes else ()
        calls[maker.id] = dataclasses.replace(maker, op=op, arguments=arguments, writes=writes)
    return dataclasses.replace(tape, values=values, calls=calls), leaves


def _updated_within(trial: Trial) -> Iterator[Explanation]:
    """Yield each layer's update made before the gradient is sent back through the layer."""
    sites = [
        s for s in trial.sites(_WEIGHTED) if _weight(s) in s.names and s.edge(_input(s)) is not None
    ]

    def predict(rate: float) -> dict[str, NDArray[np.float64]]:
        def wrong(visit: Visit) -> list[Any] | None:
            weight, edge = visit.site.edge(_weight(visit.site)), visit.site.edge(_input(visit.site))
            if weight is None or edge is None:
                return visit.sent
            moved = visit.site.operands[_weight(visit.site)] - rate * visit.sent[weight]
            gradient = visit.site.vjp(_input(visit.site), visit.g, **{_weight(visit.site): moved})
            return [*visit.sent[:edge], gradient, *visit.sent[edge + 1 :]]

        return trial.with_mistakes([(site, wrong) for site in sites])

    best = fitted(trial.case, predict, _STARTS) if sites else None
    if best is not None:
        rate, predicted = best
        text = (
            "each layer's weight was updated before the gradient was sent back through it: earlier "
            f"layers got the gradient through w - {rate:.4g} g"
        )
        yield Explanation("weight updated within backward", text, predicted, rate, freedom=REAL)


def _weight(site: Site) -> str:
    return "w" if site.op == "aten.convolution" else "B"


def _input(site: Site) -> str:
    return "x" if site.op == "aten.convolution" else "A"
