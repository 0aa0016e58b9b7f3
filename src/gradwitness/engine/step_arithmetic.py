"""Which arithmetic a recorded step is assumed to have run in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import Arithmetic, is_inexact, unit_roundoff
from gradwitness.rules import find
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.tape import Call, Node, Tape


def working_dtype(tape: Tape, call: Call) -> str:
    """Return the format that a call computes in: its result's, else its first operand's."""
    numbers = [n for n in call.outputs if n is not None]
    for argument in call.arguments.values():
        numbers += [argument.value] if isinstance(argument, Ref) else []
    named = (tape.values[n].dtype for n in numbers)
    return next((dtype for dtype in named if is_inexact(dtype)), "float32")


def forward_arithmetic(tape: Tape, call: Call) -> Arithmetic:
    """Return the arithmetic that a call is assumed to have run in: one kernel, or several.

    A backward kernel may store in the coarsest format among its operands, whatever its result's.
    """
    dtype = working_dtype(tape, call)
    if _is_backward(call):
        dtype = max((dtype, *_operand_formats(tape, call)), key=unit_roundoff)
    rule = find(call.base_op)
    composite = rule is not None and rule.composite
    return Arithmetic.stepwise(dtype) if composite else Arithmetic.fused(dtype)


def backward_arithmetic(
    tape: Tape, node: Node, incoming: Sequence[int | None]
) -> Arithmetic | None:
    """Return the arithmetic that a node is assumed to run in: step by step, in its format.

    If gradients of several formats come in, the coarsest counts: all are rounded to it first. The
    backward of a backward is a chain of operations, each in its operands' format, so that there the
    call's operands count as well.
    """
    formats = [tape.values[number].dtype for number in incoming if number is not None]
    for dtype in formats:
        if not is_inexact(dtype):
            raise Unjudgeable(f"a gradient in {dtype}")
    if not formats:
        return None
    if node.call is not None and _is_backward(tape.calls[node.call]):
        formats += _operand_formats(tape, tape.calls[node.call])
    return Arithmetic.stepwise(max(formats, key=unit_roundoff))


def _is_backward(call: Call) -> bool:
    """Whether a call is itself the backward of another operation."""
    return call.base_op.endswith("_backward")


def _operand_formats(tape: Tape, call: Call) -> list[str]:
    """Return the inexact formats of a call's operands."""
    numbers = {*call.operands}
    return [tape.values[n].dtype for n in numbers if is_inexact(tape.values[n].dtype)]
