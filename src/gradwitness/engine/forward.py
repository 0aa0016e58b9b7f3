"""One call's value, from its operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.binding import Lookup, Unjudgeable, bind, working_dtype
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules import find

if TYPE_CHECKING:
    from gradwitness.tape import Call, Tape


def evaluate(tape: Tape, call: Call, lookup: Lookup, *, bounded: bool) -> tuple[Any, ...]:
    """Compute what a call should have made.

    Parameters
    ----------
    tape : Tape
    call : Call
    lookup : callable
        Gives the numbers of a value.
    bounded : bool
        Return Bounded arrays in the call's own format instead of plain ones.

    Returns
    -------
    tuple
        One array for each output of the call.

    Raises
    ------
    Unjudgeable
        If there is no rule, or it does not cover this form.
    """
    arithmetic = forward_arithmetic(tape, call) if bounded else None
    bound = bind(tape, call, lookup, arithmetic=arithmetic)
    result = run(bound.rule.function, *bound.operands, **bound.parameters)
    outputs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    if len(outputs) != len(call.outputs):
        raise Unjudgeable(f"{call.op} has {len(call.outputs)} outputs, its rule {len(outputs)}")
    return outputs


def forward_arithmetic(tape: Tape, call: Call) -> Arithmetic:
    """Return the arithmetic that a call is assumed to have run in: one kernel, or several."""
    dtype = working_dtype(tape, call)
    rule = find(call.base_op)
    composite = rule is not None and rule.composite
    return Arithmetic.stepwise(dtype) if composite else Arithmetic.fused(dtype)


def run(function: Any, *operands: Any, **parameters: Any) -> Any:
    """Run a rule's function; overflow and 0/0 are results, not warnings.

    Raises
    ------
    Unjudgeable
        If the rule says that it does not cover this form.
    """
    try:
        with np.errstate(all="ignore"):
            return function(*operands, **parameters)
    except NotImplementedError as reason:
        raise Unjudgeable(f"no rule for this form: {reason}") from None
