"""Logarithms of the probabilities with which a policy chose, as programs write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.sight import made

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.tape import Call, Tape

    Makers = Mapping[int, Call]

_LOGARITHMS = ("aten._log_softmax", "aten.log_sigmoid_forward")
_PROBABILITIES = ("aten._softmax", "aten.sigmoid")
_CHOOSES = frozenset(
    f"aten.{n}" for n in ("_to_copy", "gather", "index", "index_select", "neg", "sum")
)
# Losses that are logarithms of probabilities, one for each choice.
_BINARY = "aten.binary_cross_entropy_with_logits"
_LOSSES = frozenset({_BINARY, "aten.nll_loss2d_forward", "aten.nll_loss_forward"})
_OF_LOGITS = frozenset({*_LOGARITHMS, *_PROBABILITIES, _BINARY, "aten.logsumexp"})
# What leaves probabilities what they are, or keeps them from 0.
_KEEPS = frozenset(f"aten.{n}" for n in ("add", "clamp", "clamp_min", "div"))
_NORMAL = frozenset(f"aten.{n}" for n in ("add", "div", "sub"))


def chosen_by(tape: Tape, makers: Makers, number: int) -> set[int]:
    """Return what is a policy's own, if a value is made of logarithms of its probabilities.

    That is the mean of a normal distribution, or what others compute of the same logits. Known are
    softmaxes and sigmoids, `log_softmax`, logits less their `logsumexp`, losses without reduction,
    and the density of a normal distribution; sums of these, and ratios ``exp(new - old)``.

    Parameters
    ----------
    tape : Tape
    makers : mapping of int to Call
        The call that made each value.
    number : int
        The value.
    """
    call = makers.get(number)
    if call is not None and call.base_op == "aten.exp":
        call = makers.get(call.operands[0])
        if call is None or call.base_op != "aten.sub":
            return set()
        call = makers.get(call.operands[0])
    while call is not None:
        if call.is_view or call.base_op in _CHOOSES:
            following = call.operands[0]
        elif call.base_op == "aten.mul":
            # One of each row, by ones and zeros.
            sides = _learned(tape, call)
            if len(sides) != 1:
                return set()
            following = sides[0]
        else:
            break
        call = makers.get(following)
    if call is None:
        return set()
    logits, mean = _logits(makers, call), _mean(tape, makers, call)
    taken = [one for one in tape.calls if logits in one.operands and one.base_op in _OF_LOGITS]
    return {n for one in taken for n in made(one)} | ({mean} if mean is not None else set())


def _logits(makers: Makers, call: Call) -> int | None:
    """Return the logits of which a call makes logarithms of probabilities."""
    if call.base_op in _LOGARITHMS:
        return call.operands[0]
    if call.base_op in _LOSSES and call.arguments.get("reduction") == 0:
        inner = makers.get(call.operands[0])
        is_softmax = inner is not None and inner.base_op in _LOGARITHMS
        return inner.operands[0] if inner is not None and is_softmax else call.operands[0]
    if call.base_op == "aten.log":
        probability = makers.get(call.operands[0])
        while probability is not None and (
            probability.is_view or probability.base_op in _CHOOSES | _KEEPS
        ):
            probability = makers.get(probability.operands[0])
        known = probability is not None and probability.base_op in _PROBABILITIES
        return probability.operands[0] if probability is not None and known else None
    if call.base_op == "aten.sub" and len(call.operands) == 2:
        whole = makers.get(call.operands[1])
        if whole is not None and whole.base_op == "aten.logsumexp":
            return call.operands[0] if whole.operands[:1] == call.operands[:1] else None
    return None


def _mean(tape: Tape, makers: Makers, call: Call) -> int | None:
    """Return the mean of a normal density's logarithm, ``-(x - mean)^2 / s - ...``, for data x."""
    inner: Call | None = call
    while inner is not None and inner.base_op in _NORMAL:
        inner = makers.get(inner.operands[0])
    if inner is None or inner.base_op != "aten.neg":
        return None
    square = makers.get(inner.operands[0])
    if square is None or square.base_op != "aten.pow" or square.arguments.get("exponent") != 2:
        return None
    difference = makers.get(square.operands[0])
    if difference is None or difference.base_op != "aten.sub":
        return None
    sides = _learned(tape, difference)
    return sides[0] if len(sides) == 1 else None


def _learned(tape: Tape, call: Call) -> list[int]:
    """Return the operands of a call of two that a gradient goes on to."""
    edges = () if call.node is None else tape.nodes[call.node].edges
    pairs = zip(call.operands, edges, strict=False)
    return [n for n, edge in pairs if edge is not None] if len(edges) == 2 else []
