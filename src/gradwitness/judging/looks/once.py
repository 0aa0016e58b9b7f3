"""Steps that round each number once, or a few times, done again in their own format, bit for bit.

IEEE 754 (2019, section 5.1) says which number a sum, a difference, a product or a quotient of two
is: the nearest one. So where the witness's own, made of the recorded numbers in their own format,
has the same bits, the step is right to the last of them, and nothing wider can tell more. Where it
has not, bounds tell, which allow that one rounding.

Of a few roundings in torch's order, the same bits say as much of all: how far these few lead away
from the right number, at most.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import is_distant, scalar
from gradwitness.engine.floats import Arithmetic, limits
from gradwitness.engine.forms import MOST
from gradwitness.judging.comparing.comparison import SHARE, Comparison
from gradwitness.judging.looks.norms import are_equal, peak_of
from gradwitness.tape import Ref
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.forms import Form
    from gradwitness.tape import Call, NodeRun, Value

# Results (an empty name) and gradients of operands that take one rounding, or none, or those below.
# (What is handed on as it arrived is looked at before.)
_ONCE = {
    "aten.abs": ("",),
    "aten.add": ("",),
    "aten.div": ("", "a"),
    "aten.mul": ("", "a", "b"),
    "aten.neg": ("", "x"),
    "aten.relu": ("", "x"),
    "aten.rsub": ("", "a"),
    "aten.sub": ("", "b"),
    "aten.sigmoid": ("x",),
    "aten.tanh": ("x",),
}
# Gradients that take a few roundings, of products whose factors do not cancel: n of them lead no
# further than n u (S. M. Rump, F. Buenger and C.-P. Jeannerod 2016). The order is torch's, which
# rounds 1 - y^2 once where its compiler fuses that. (In float64 it is all but exact.)
_FEW: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "aten.sigmoid": (3, lambda g, y: g * (1 - y) * y),
    "aten.tanh": (2, lambda g, y: g * (1 - np.square(y, dtype=np.float64)).astype(y.dtype)),
}
# With a factor there would be a second one; what is cut to a whole number may be cut elsewhere.
_PLAIN = {"alpha": 1, "rounding_mode": None}
# 16 bits are rounded to from float32; what is in float64 is judged by its bounds.
_FORMAT = "float32"
UNIT = Arithmetic.stepwise(_FORMAT).unit
_SMALLEST = float(limits(_FORMAT).smallest_normal)
# So many numbers are held at once, and so many of sums are added at once.
_MOST, _BLOCK = 2**18, 2**14
# The first index of any array.
_START = (0,) * 64


def rounded_once(call: Call, form: Form) -> tuple[str, ...]:
    """Return what of a step rounds once at most: the empty name for its result, and operands."""
    once, asked = _by_form(form)
    for name, usual in asked:
        if call.arguments[name] != usual:
            return ()
    return once


@functools.lru_cache(maxsize=MOST)
def _by_form(form: Form) -> tuple[tuple[str, ...], list[tuple[str, Any]]]:
    """Return what of a form rounds once, if some of its arguments are as usual; and these."""
    fits = form.largest <= _MOST and form.by_element and form.formats == {_FORMAT}
    once = _ONCE.get(form.rule.name, ()) if fits else ()
    return once, [item for item in _PLAIN.items() if once and item[0] in form.names]


def result_once(
    values: Sequence[Value], call: Call, form: Form, norm: Callable[[Value], float]
) -> Comparison | None:
    """Look at the result of a call; None if it has other bits."""
    operands, number = operands_as_recorded(values, call, form), call.outputs[0]
    if operands is None or number is None:
        return None
    parameters = {name: call.arguments[name] for name in form.parameters}
    made = form.rule.function(*operands, **parameters)
    return is_exactly(values[number], made, norm)


def sent_once(
    values: Sequence[Value],
    call: Call,
    form: Form,
    node_run: NodeRun,
    sent: Mapping[int, Value],
    names: tuple[str, ...],
    norm: Callable[[Value], float],
) -> dict[int, Comparison | None]:
    """Look at the gradients of some operands, by input; None of those that have other bits.

    Those of an operand that was repeated are sums, and are left out.
    """
    whole, came = form.outputs[0], node_run.incoming
    at = {k: v for k, v in sent.items() if (v.shape, v.dtype) == whole} if names else {}
    if not at or len(came) != 1 or came[0] is None:
        return {}
    g, rule = values[came[0]], form.rule
    roundings, few = _FEW.get(rule.name, (1, None))
    reads_y = few is not None or "y" in rule.kept
    y = _numbers(values[call.outputs[0] or 0]) if reads_y else None
    operands = operands_as_recorded(values, call, form, rule.kept)
    if (
        operands is None
        or _numbers(g) is None
        or (y is None and reads_y)
        or (g.shape, g.dtype) != whole
    ):
        return {}
    edges, found = form.edges(), {}
    parameters = {name: call.arguments[name] for name in form.parameters}
    for k, value in at.items():
        name = edges[k][0][0] if k < len(edges) else ""
        if name and name in names:
            given = g.array, y, operands, parameters
            made = few(g.array, y) if few else rule.gradients[name](*given)
            found[k] = is_exactly(value, made, norm, roundings)
    return found


def operands_as_recorded(
    values: Sequence[Value], call: Call, form: Form, read: Container[str] | None = None
) -> list[Any] | None:
    """Return the operands of a call as they were recorded, or those that are read."""
    found: list[Any] = []
    for name, schema in zip(form.rule.operands, form.positional, strict=True):
        argument: Any = call.arguments[schema]
        if read is not None and name not in read:
            argument = None
        elif isinstance(argument, Ref):
            argument = _numbers(values[argument.value])
            if argument is None:
                return None
        found.append(argument)
    return found


def _numbers(value: Value) -> NDArray[Any] | None:
    """Return a value's numbers; None of a sparse tensor that has several terms at a place."""
    return None if value.sparse > 1 else value.array


def sum_once(
    value: Value, terms: Sequence[Value], norm: Callable[[Value], float]
) -> Comparison | None:
    """Look at a sum of gradients, added one after the other; None if it has other bits.

    Each sum on the way is off by at most u times what it comes to. A block of all of them is added
    at a time: of a weight that a loop has used often, there are as many as it has turns.
    """
    if value.dtype != _FORMAT or math.prod(value.shape) > _MOST:
        return None
    numbers: list[Any] = [*map(_numbers, terms)]
    if any(array is None or array.shape != value.shape for array in numbers):
        return None
    made = numbers[0].copy(order="K")
    peaks = add_in_turn(made, numbers[1:])
    return is_exactly(value, made, norm, before=peaks)


def add_in_turn(total: Any, terms: Sequence[Any]) -> float:
    """Add arrays to one, in place; return what the sums come to at most, added up, but the last."""
    outer = int(np.argmax(total.strides)) if total.ndim else 0
    total, *others = (np.moveaxis(a, outer, 0) if outer else a for a in (total, *terms))
    peaks = [0.0] * len(others)
    for block in _blocks(total):
        part = total[block]
        for k, term in enumerate(others):
            if k:
                peaks[k] = max(peaks[k], peak_of(part))
            part += term[block]
    return sum(peaks)


def _blocks(array: NDArray[Any]) -> list[Any]:
    """Return ranges of rows of which a few arrays stay in a processor's cache."""
    rows = max(1, _BLOCK * len(array) // array.size) if array.ndim and array.size else 1
    if is_distant(array) or not array.ndim or rows >= len(array):
        return [...]
    return [slice(start, start + rows) for start in range(0, len(array), rows)]


def is_exactly(
    value: Value,
    made: Any,
    norm: Callable[[Value], float],
    roundings: int = 1,
    before: float = 0.0,
) -> Comparison | None:
    """Return the comparison of numbers that are the nearest to the right ones; None of others.

    Or that take a few ``roundings``, and of sums those that were rounded ``before``. None, too, of
    zeros, of what is not finite, and where the largest is so small that an underflow costs more
    than a rounding. (A zero's sign does not count.)
    """
    array = None if value.sparse > 1 else value.array
    if array is None or array.dtype != made.dtype or array.shape != made.shape:
        return None
    length = norm(value) if are_equal(array, made) else 0.0
    if not 0 < length < math.inf:
        return None
    first, largest = scalar(array[index := _START[: array.ndim]]), peak_of(array)
    if UNIT * largest < _SMALLEST:
        return None
    relative = 2 * UNIT * (roundings + before / largest)
    if relative > SHARE:
        return None
    return Comparison(
        Verdict.AGREES,
        "",
        array.size,
        index=index,
        recorded=first,
        expected=first,
        error=0.0,
        bound=UNIT * (roundings * abs(first) + before),
        ratio=0.0,
        ulps=0.0,
        detects=relative * largest,
        detects_relative=relative,
        norm=length,
    )
