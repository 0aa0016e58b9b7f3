"""Which arithmetic a recorded step is assumed to have run in."""

from __future__ import annotations

import itertools
import operator
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import Arithmetic, is_inexact, unit_roundoff
from gradwitness.rules import find
from gradwitness.rules.registry import ALWAYS, IN_BACKWARD, IN_ORDER, OUT_OF_ORDER, UNLESS_TWICE
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradwitness.tape import Call, Node, NodeRun, Tape, Value


def working_dtype(tape: Tape, call: Call) -> str:
    """Return the format that a call computes in: its result's, else its first operand's."""
    return next(filter(is_inexact, formats_of(tape, call)), "float32")


def formats_of(tape: Tape, call: Call) -> Iterator[str]:
    """Yield the formats of a call's results, then those of its operands."""
    for number in call.outputs:
        if number is not None:
            yield tape.values[number].dtype
    for argument in call.arguments.values():
        if isinstance(argument, Ref):
            yield tape.values[argument.value].dtype


def forward_arithmetic(tape: Tape, call: Call) -> Arithmetic:
    """Return the arithmetic that a call is assumed to have run in: one kernel, or several.

    A backward kernel may store in the coarsest format among its operands, whatever its result's. So
    may one of several kernels, which works on some of them alone.
    """
    formats = [working_dtype(tape, call)]
    composite = _is_composite(tape, call)
    if composite or _is_backward(call):
        formats += _operand_formats(tape, call)
    return _coarsest(Arithmetic.stepwise if composite else Arithmetic.fused, formats)


def numbers_dtype(tape: Tape, call: Call, *, backward: bool) -> str:
    """Return the format to which a call, or its backward, rounds numbers without axes.

    That in which it computes; of several kernels, the coarsest in which one of them does.
    """
    dtype = working_dtype(tape, call)
    if not _is_composite(tape, call, backward=backward):
        return dtype
    return max((dtype, *_operand_formats(tape, call)), key=unit_roundoff)


def backward_arithmetic(tape: Tape, node: Node, node_run: NodeRun) -> Arithmetic | None:
    """Return the arithmetic that a node is assumed to run in: step by step, in its format.

    If gradients of several formats come in, the coarsest counts: all are rounded to it first. The
    backward of a backward, or of several operations, is a chain of them, each in its operands'
    format, so that there the call's operands count as well. So they do where a backward computes
    with the operands alone, before they meet the gradient.
    """
    arrived = [number for number in node_run.incoming if number is not None]
    formats = [tape.values[number].dtype for number in arrived]
    for dtype in formats:
        if not is_inexact(dtype):
            raise Unjudgeable(f"a gradient in {dtype}")
    if not formats:
        return None
    call = None if node.call is None else tape.calls[node.call]
    if call is not None and (_is_composite(tape, call, backward=True) or _is_backward(call)):
        formats += _operand_formats(tape, call)
    kernels = {ALWAYS}
    if not node_run.seen and len(arrived) == 1:
        kernels.add(UNLESS_TWICE)
    if call is not None and _are_in_order(tape, (*arrived, *call.operands)):
        kernels.add(IN_ORDER)
    return replace(_coarsest(Arithmetic.stepwise, formats), kernels=frozenset(kernels))


def _coarsest(made_for: Callable[[str], Arithmetic], formats: Iterable[str]) -> Arithmetic:
    """Return the arithmetic of kernels of which each may compute in any of some formats.

    The coarsest counts; and what underflows in one of them, which need not be that.
    """
    of_each = [made_for(dtype) for dtype in dict.fromkeys(formats)]
    coarsest = max(of_each, key=operator.attrgetter("coarsest"))
    tiny = max(arithmetic.tiny for arithmetic in of_each)
    return coarsest if coarsest.tiny == tiny else replace(coarsest, tiny=tiny)


def _are_in_order(tape: Tape, numbers: Iterable[int]) -> bool:
    """Whether the numbers of some values lie in memory in the order of their axes."""
    return all(is_in_order(tape.values[number]) for number in numbers)


def is_in_order(value: Value) -> bool:
    """Whether the numbers of a value lie in memory in the order of its axes."""
    if value.layout is None:
        return False
    steps = itertools.accumulate(reversed(value.shape[1:]), initial=1, func=operator.mul)
    along = zip(reversed(value.shape), reversed(value.layout.strides), steps, strict=False)
    return all(size == 1 or stride == step for size, stride, step in along)


def _is_composite(tape: Tape, call: Call, *, backward: bool = False) -> bool:
    """Whether a call, or its backward, runs several kernels that work on its operands alone."""
    rule = find(call.base_op)
    composite = rule is not None and rule.composite
    if composite == OUT_OF_ORDER:
        return not _are_in_order(tape, call.operands)
    if composite == IN_BACKWARD:
        return backward
    return bool(composite)


def _is_backward(call: Call) -> bool:
    """Whether a call is itself the backward of another operation."""
    return call.base_op.endswith("_backward")


def _operand_formats(tape: Tape, call: Call) -> list[str]:
    """Return the inexact formats of a call's operands."""
    numbers = {*call.operands}
    return [tape.values[n].dtype for n in numbers if is_inexact(tape.values[n].dtype)]
