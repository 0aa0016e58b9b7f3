"""How long the sums are that make a value's numbers, and how large they would be at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.judging.looks.step import operands_of
from gradwitness.rules.registry import ADDED
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.engine.forms import Form
    from gradwitness.tape import Call, Value

# Products of operands that share no axis but what is summed: linear in each.
PRODUCTS = frozenset(f"aten.{name}" for name in ("addmm", "baddbmm", "bmm", "convolution", "mm"))
# Attention's gradients are products of products: what one rounds, the next ones add up again.
ATTENTION, _CHAIN = "aten._scaled_dot", 512.0


@dataclass(frozen=True)
class Sums:
    """What a value's numbers are sums of.

    Attributes
    ----------
    length : float
        About how many terms each of them has.
    size : float
        The root mean square of what such sums would be were the signs of their terms random; 0 if
        that is not known. Terms that cancel leave less, and what rounding leaves stays.
    """

    length: float = 1.0
    size: float = 0.0


_ALONE = Sums()


def sums_made(
    values: Sequence[Value], call: Call, form: Form, norm: Callable[[Value], float]
) -> Sums:
    """Return what a product's numbers are sums of."""
    if form.rule.name not in PRODUCTS or call.outputs[0] is None:
        return _ALONE
    factors = list(_factors(values, call, form).values())
    return _products(values, call, factors, values[call.outputs[0]], norm)


def sums_sent(
    values: Sequence[Value],
    call: Call,
    form: Form,
    operand: str,
    arrived: Sequence[int | None],
    sent: Value,
    norm: Callable[[Value], float],
) -> Sums:
    """Return what the numbers of a gradient that was sent to an operand are sums of."""
    came = [values[n] for n in arrived if n is not None]
    if call.base_op.startswith(ATTENTION):
        at_most = _attended(values, call, form, operand, came[0], norm) if came else 0.0
        return Sums(_CHAIN, at_most)
    if len(came) != 1:
        return _ALONE
    factors = _factors(values, call, form)
    if operand in factors:
        others = [value for name, value in factors.items() if name != operand]
        return _products(values, call, [*came, *others], sent, norm)
    length = math.prod(came[0].shape) / math.prod(sent.shape)
    size = norm(came[0]) / math.sqrt(math.prod(sent.shape)) if operand == ADDED else 0.0
    return Sums(length, size)


def _attended(
    values: Sequence[Value],
    call: Call,
    form: Form,
    operand: str,
    came: Value,
    norm: Callable[[Value], float],
) -> float:
    """Return how large attention's gradient of a query or key is where one weight is nearly 1.

    It is what g v^T has above its mean under the weights, which is nothing then, but for what
    rounding leaves of g v^T itself; times the scale and the other of the two.
    """
    operands = operands_of(values, call, form)
    other = {"q": "k", "k": "q"}.get(operand)
    if other is None or not {other, "v"} <= operands.keys():
        return 0.0
    factors = [came, operands["v"], operands[other]]
    scale = call.arguments.get("scale")
    factor = abs(scale) if isinstance(scale, (int, float)) else factors[-1].shape[-1] ** -0.5
    middle = math.prod(norm(value) / math.sqrt(math.prod(value.shape)) for value in factors)
    return factor * math.sqrt(came.shape[-1]) * middle


def _factors(values: Sequence[Value], call: Call, form: Form) -> dict[str, Value]:
    """Return the factors of a product, by the rule's name; none if it is another operation."""
    if form.rule.name not in PRODUCTS:
        return {}
    operands = operands_of(values, call, form)
    return {name: value for name, value in operands.items() if name != ADDED}


def _products(
    values: Sequence[Value],
    call: Call,
    factors: Sequence[Value],
    made: Value,
    norm: Callable[[Value], float],
) -> Sums:
    """Return the sums of products of two tensors' numbers.

    Matrices of m x n and n x p numbers make m x p: the root of what the first two have over the
    last is n. Of a convolution's three tensors one is a kernel, in each of its groups.
    """
    if len(factors) != 2:
        return _ALONE
    one, other = (math.prod(value.shape) for value in factors)
    size = math.prod(made.shape)
    if 0 in (one, other, size):
        return _ALONE
    length = math.sqrt(one * other / size)
    groups, kernel = call.arguments.get("groups"), call.arguments.get("weight")
    if isinstance(groups, int) and isinstance(kernel, Ref):
        length *= math.sqrt(math.prod(values[kernel.value].shape[2:]) / groups)
    middle = norm(factors[0]) * norm(factors[1]) / math.sqrt(one * other)
    return Sums(length, math.sqrt(length) * middle)
