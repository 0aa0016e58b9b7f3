"""One call's value, from its operands."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError, RuleFailure, Unjudgeable
from gradwitness._printable import one_line
from gradwitness.engine.binding import Lookup, bind, unrecorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.array import rounding
from gradwitness.engine.floats import (
    Arithmetic,
    as_array,
    is_complex,
    is_float,
    is_inexact,
    round_to,
    wide,
)
from gradwitness.engine.foreach import is_foreach, members
from gradwitness.engine.forms import BITS
from gradwitness.engine.step_arithmetic import forward_arithmetic
from gradwitness.rules.kernel_ops import paired
from gradwitness.rules.user_rules import own

if TYPE_CHECKING:
    from gradwitness.tape import Call, Tape, Value


def evaluate(
    tape: Tape,
    call: Call,
    lookup: Lookup,
    *,
    bounded: bool,
    confidence: float | None = None,
    stretches: int = 0,
    from_recorded: bool = False,
) -> tuple[Any, ...]:
    """Compute what a call should have returned, an array for each output.

    They are plain, or Bounded in the call's own format, the probable bounds with `Arithmetic`'s
    confidence or another, and sums in turn in so many stretches. A rule that goes on in steps
    starts each from the recorded one before if they are Bounded, or if asked to. Without a rule
    that covers this form the call is Unjudgeable.
    """
    if is_foreach(call):
        results = (
            evaluate(
                tape, member, lookup, bounded=bounded, confidence=confidence, stretches=stretches
            )
            for member in members(call)
        )
        return tuple(result for (result,) in results)
    if call.op in BITS:
        return (_reinterpreted(tape, call),)
    arithmetic = forward_arithmetic(tape, call) if bounded else None
    if arithmetic is not None:
        confidence = arithmetic.confidence if confidence is None else confidence
        arithmetic = replace(arithmetic, stretches=stretches, confidence=confidence)
    bound = bind(tape, call, lookup, arithmetic=arithmetic)
    parameters = bound.parameters
    if (from_recorded or bounded) and "made" in bound.rule.parameters:
        parameters = parameters | {"made": _recorded_outputs(call, lookup, arithmetic)}
    whose = f"the rule of {bound.rule.name}"
    result = run(whose, bound.rule.function, *bound.operands, **parameters)
    outputs = result if isinstance(result, (tuple, list)) else (result,)
    if len(outputs) != len(call.outputs):
        raise RuleFailure(
            f"{call.op} has {len(call.outputs)} outputs, but its rule returns {len(outputs)}"
        )
    if outputs and outputs[0] is None and all(output is None for output in outputs):
        raise RuleFailure(f"{whose} returns None: is a return missing?")
    return tuple(
        [
            result
            if n is None or result is None
            else _output(call, whose, result, tape.values[n], arithmetic)
            for result, n in zip(outputs, call.outputs, strict=True)
        ]
    )


def _reinterpreted(tape: Tape, call: Call) -> Any:
    """Return an operand's bits as numbers of the recorded result's format."""
    operand, result = (tape.values[number or 0] for number in (*call.operands, *call.outputs))
    if operand.array is None or result.array is None:
        raise Unjudgeable(unrecorded(operand if operand.array is None else result))
    # Where formats differ in size, NumPy wants the last axis to be dense.
    bits: Any = np.copy(operand.array, order="C")
    bits = bits.view(result.array.dtype)
    return wide(bits) if is_inexact(result.dtype) else bits


def _output(
    call: Call, whose: str, result: Any, recorded: Value, arithmetic: Arithmetic | None
) -> Any:
    value = numbers(whose, result, recorded.dtype, arithmetic)
    # Torch's own operations may hand a real part on; a rule of the program's has no such reason.
    if value.dtype.kind == "c" and not is_complex(recorded.dtype) and call.base_op in own():
        raise RuleFailure(f"{whose} returns complex numbers, but real ones were recorded")
    if value.shape != recorded.shape:
        raise RuleFailure(f"{whose} gives shape {value.shape}, but {recorded.shape} was recorded")
    return as_recorded(value, recorded)


def numbers(whose: str, result: Any, dtype: str, arithmetic: Arithmetic | None) -> Any:
    """Return a rule's result as an array, Bounded if there is an arithmetic.

    Plain numbers that the recorded format cannot hold get the error of their rounding.
    """
    if result is None:
        raise RuleFailure(f"{whose} returns None: is a return missing?")
    if isinstance(result, Bounded):
        return result
    array = result if isinstance(result, np.ndarray) else run(whose, as_array, result)
    if array.dtype.kind not in "biufc":
        raise RuleFailure(f"{whose} returns {type(result).__name__} instead of an array")
    if arithmetic is None or array.dtype.kind not in "fc":
        return array
    if not is_inexact(dtype) or np.array_equal(array, round_to(array, dtype)):
        return Bounded(array, arithmetic)
    error = rounding(arithmetic, array)[0](None)
    return Bounded(array, arithmetic, error, error)


def _recorded_outputs(call: Call, lookup: Lookup, arithmetic: Arithmetic | None) -> tuple[Any, ...]:
    """Return a call's recorded results, for a rule that checks each step against the one before."""
    arrays = (None if n is None else lookup(n) for n in call.outputs)
    return tuple(
        Bounded(array, arithmetic)
        if arithmetic is not None and array is not None and array.dtype.kind in "fc"
        else array
        for array in arrays
    )


def as_recorded(result: Any, recorded: Value) -> Any:
    """Convert a result to the recorded kind of number: integers are truncated, as by torch.

    Where a rounding error could change the integer, it is Unjudgeable.

    A complex result keeps its real part where a real one was recorded.

    What an integer cannot hold depends on the processor, as C leaves it undefined: the lowest
    number (x86), or the nearest one, and 0 for NaN (ARM).
    """
    dtype = recorded.dtype
    if type(result) is np.ndarray and result.dtype.kind == "f" and is_float(dtype):
        return result
    value = as_array(result.value if isinstance(result, Bounded) else result)
    if dtype.startswith("complex") and not is_complex(dtype):
        raise Unjudgeable(f"complex numbers in {dtype}")
    if value.dtype.kind == "c" or is_complex(dtype):
        result = over_field(result if isinstance(result, Bounded) else value, dtype)
        return result if is_inexact(dtype) else as_recorded(result, recorded)
    if is_inexact(dtype):
        return value.astype(np.float64) if value.dtype.kind in "iub" else result
    kind = np.dtype(dtype)
    if value.dtype.kind not in "f" or kind == np.bool_:
        # Integers wrap around; everything but 0 is true, NaN too.
        return value.astype(kind)
    truncated = np.trunc(value)
    limits = np.iinfo(kind)
    fits = (truncated >= limits.min) & (truncated <= float(limits.max))
    error = 0 if not isinstance(result, Bounded) or result.is_exact else result.rigorous
    low, high = np.trunc(value - error), np.trunc(value + error)
    if np.any(fits & ((low != truncated) | (high != truncated))):
        raise Unjudgeable("integer result depends on rounding")
    integers = np.where(fits, np.where(fits, truncated, 0).astype(kind), kind.type(limits.min))
    if recorded.array is not None and not fits.all():
        nearest = np.where(truncated > 0, limits.max, limits.min)
        nearest = np.where(np.isnan(truncated), 0, nearest).astype(kind)
        integers = np.where(~fits & (recorded.array == nearest), nearest, integers)
    return integers


def over_field(numbers: Any, dtype: str) -> Any:
    """Return numbers as real or complex ones, as the format is.

    Of a gradient with respect to a real operand only the real part counts.
    """
    if is_complex(dtype):
        return numbers if numbers.dtype.kind == "c" else paired(numbers, np.zeros_like(numbers))
    return np.real(numbers) if numbers.dtype.kind == "c" else numbers


def run(whose: str, function: Any, /, *operands: Any, **parameters: Any) -> Any:
    """Run a rule's function; overflow and 0/0 are results, not warnings.

    What it raises makes the step Unjudgeable, for a reason that begins with whose function it is.
    """
    try:
        with np.errstate(all="ignore"):
            return function(*operands, **parameters)
    except NotImplementedError as reason:
        raise Unjudgeable(f"no rule for this form: {reason}") from None
    except Unjudgeable:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        # This runs inside the user's program: one step stays unjudged.
        rule_error = next((e for e in (error, error.__cause__) if isinstance(e, RuleError)), None)
        failure = str(rule_error) if rule_error else f"failed: {type(error).__name__}: {error}"
        text = one_line(f"{whose} {failure}{_failure_location(error, function)}")
        raise RuleFailure(text) from error


def _failure_location(error: BaseException, function: Any) -> str:
    """Return where in a rule's own file it failed."""
    written = inspect.unwrap(getattr(function, "function", function))
    file = getattr(getattr(written, "__code__", None), "co_filename", "")
    lines = [n for at, n in walk_tb(error.__traceback__) if at.f_code.co_filename == file]
    if not lines:
        return ""
    nearer = os.path.relpath(file)
    return f" (at {file if nearer.startswith('..') else nearer}:{lines[-1]})"
