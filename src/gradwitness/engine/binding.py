"""From a recorded call to a rule's arguments."""

from __future__ import annotations

import functools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import (
    Arithmetic,
    is_complex,
    is_inexact,
    round_to,
    unit_roundoff,
    wide,
)
from gradwitness.engine.forms import Form, form_of, schema_names
from gradwitness.engine.step_arithmetic import formats_of, numbers_dtype
from gradwitness.rules.shape.shape import positions
from gradwitness.tape import Argument, Call, Ref, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness import rules
    from gradwitness.engine.forms import Input

# Looks up a value's numbers: recorded ones, or a replay's.
Lookup: TypeAlias = "Callable[[int], NDArray[Any]]"


class Bound(NamedTuple):
    """A call with its rule and the rule's operands, of which ``arguments`` are as recorded."""

    call: Call
    form: Form
    operands: tuple[Any, ...]
    parameters: dict[str, Any]

    @property
    def rule(self) -> rules.Rule:
        """The rule."""
        return self.form.rule

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments that are its operands."""
        return tuple([self.call.arguments[name] for name in self.form.positional])

    def inputs(self) -> list[Input]:
        """Return the differentiable inputs, see `Form.inputs`."""
        return self.form.inputs(self.call)


def inputs_of(tape: Tape, call: Call) -> list[Input]:
    """Return a call's differentiable inputs, see `Form.inputs`."""
    return form_of(tape.values, call).inputs(call)


def unrecorded(value: Value) -> str:
    """Return why the tape does not hold a value's numbers."""
    if value.freed:
        return "its memory was freed, or filled by something unseen, before it could be read"
    if value.layout is None:
        return f"a {value.dtype} tensor without its own memory (sparse, or inside torch.func)"
    return f"the numbers of a {value.dtype} tensor were not recorded"


def recorded(tape: Tape) -> Lookup:
    """Return a lookup of recorded values, inexact ones in float64 or complex128."""

    def lookup(number: int) -> NDArray[Any]:
        value = tape.values[number]
        if value.array is None:
            raise Unjudgeable(unrecorded(value))
        if value.sparse > 1:
            raise Unjudgeable("a sparse tensor that names a place twice: its terms are not known")
        if not is_inexact(value.dtype):
            if value.dtype.startswith("complex"):
                raise Unjudgeable(f"complex numbers in {value.dtype}")
            return value.array
        # Memory that was never written may hold signalling NaNs.
        with np.errstate(invalid="ignore"):
            return wide(value.array)

    return lookup


def over_complex(tape: Tape, call: Call) -> bool:
    """Whether a call has complex operands or results."""
    return any(map(is_complex, formats_of(tape, call)))


def bind(
    tape: Tape,
    call: Call,
    lookup: Lookup,
    *,
    arithmetic: Arithmetic | None,
    skip: bool = False,
    for_vjp: bool = False,
) -> Bound:
    """Pair a call with its rule, with Bounded arrays if there is an arithmetic.

    With ``skip`` no numbers are looked up: the caller only needs the inputs. ``for_vjp`` looks up
    only the operands that the rule's vjps use; the others are NaN of their shape. A call without a
    rule, or with an argument that the rule does not know, is Unjudgeable.
    """
    form = form_of(tape.values, call)
    rule, arguments = form.rule, call.arguments
    numbers, scalar = lookup, _as_it_is
    if arithmetic is not None:
        dtype = numbers_dtype(tape, call, backward=for_vjp)
        numbers = partial(_operand, tape, lookup, dtype, arithmetic)
        scalar = partial(_scalar, dtype, arithmetic)
    if skip:
        numbers = lookup = _nothing
    unused = partial(stand_in, tape, arithmetic=arithmetic)
    parameters = {name: _converted(arguments[name], numbers, scalar) for name in form.parameters}
    if rule.parameters:
        parameters |= _call_parameters(tape, form, call)
    if arithmetic is not None and _makes_floats(tape, call):
        parameters |= {
            n: _exact(call.arguments[n], arithmetic)
            for n in rule.doubles
            if n in call.arguments and not isinstance(call.arguments[n], Ref)
        }
    for name, index in rule.given.items():
        # An overload may have fewer results.
        output = call.outputs[index] if index < len(call.outputs) else None
        parameters[name] = None if output is None else lookup(output)
    used = rule.kept if for_vjp else rule.operands
    operands = tuple(
        [
            _converted(arguments[schema_name], numbers if name in used else unused, scalar)
            for name, schema_name in zip(rule.operands, form.positional, strict=True)
        ]
    )
    return Bound(call, form, operands, parameters)


def _converted(argument: Argument, numbers: Lookup, scalar: Callable[[Any], Any]) -> Any:
    """Return an argument, or each element of a list, with tensors as ``numbers`` returns them."""
    if isinstance(argument, Ref):
        return numbers(argument.value)
    if isinstance(argument, tuple):
        return tuple([_converted(element, numbers, scalar) for element in argument])
    return scalar(argument) if isinstance(argument, float | complex) else argument


def _as_it_is(number: Any) -> Any:
    return number


def _nothing(number: int) -> Any:  # noqa: ARG001 (as a lookup takes it)
    """Look nothing up."""
    return None


def stand_in(tape: Tape, number: int, arithmetic: Arithmetic | None) -> Any:
    """Return NaN in a value's shape, so that an unexpected use shows."""
    value = tape.values[number]
    nothing = unknown(value.shape)
    return nothing if arithmetic is None else Bounded(nothing, arithmetic)


@functools.lru_cache
def unknown(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return NaN in a shape, without allocating it."""
    return np.broadcast_to(np.nan, shape)


def operand_names(rule: rules.Rule, call: Call) -> dict[str, str]:
    """Return the schema's name of each of a rule's operands."""
    return dict(zip(rule.operands, schema_names(rule, (*call.arguments,)), strict=False))


def vjp_arguments(rule: rules.Rule, call: Call) -> list[str]:
    """Return the schema's names of the arguments that a rule's vjps may use."""
    named = operand_names(rule, call)
    unused = {schema_name for name, schema_name in named.items() if name not in rule.kept}
    return [name for name in call.arguments if name not in unused]


def _call_parameters(tape: Tape, form: Form, call: Call) -> dict[str, Any]:
    """Return the parameters that a rule takes from the call itself.

    ``in_place``: whether it ran in place. ``memory``: where each element of the first operand lies
    in its storage, or None if they fill it in order from the start.
    """
    parameters: dict[str, Any] = {}
    if "in_place" in form.rule.parameters:
        parameters["in_place"] = bool(call.writes)
    if "memory" in form.rule.parameters:
        first = call.arguments[form.positional[0]]
        value = tape.values[first.value] if isinstance(first, Ref) else None
        parameters["memory"] = None if value is None else _memory(value)
    return parameters


def _exact(argument: Argument, arithmetic: Arithmetic) -> Any:
    """Return numbers that torch keeps in double precision as exact ones."""
    if isinstance(argument, tuple):
        return tuple(_exact(element, arithmetic) for element in argument)
    if not isinstance(argument, (int, float)):
        return argument
    return Bounded(np.asarray(float(argument)), arithmetic)


def _makes_floats(tape: Tape, call: Call) -> bool:
    return any(n is not None and is_inexact(tape.values[n].dtype) for n in call.outputs)


def _memory(value: Value) -> Any:
    """Return where a value's elements lie; None if in order from the start, or of no layout."""
    layout = value.layout
    if layout is None:
        return None
    step, dense_strides = 1, []
    for length in reversed(value.shape):
        dense_strides.append(step)
        step *= length
    pairs = zip(value.shape, layout.strides, reversed(dense_strides), strict=True)
    # The stride of an axis of length 1 is arbitrary.
    if layout.offset == 0 and all(n == 1 or s == w for n, s, w in pairs):
        return None
    return positions(value.shape, layout.strides, layout.offset)


def _operand(tape: Tape, lookup: Lookup, dtype: str, arithmetic: Arithmetic, number: int) -> Any:
    array = lookup(number)
    value = tape.values[number]
    if not is_inexact(value.dtype):
        return array
    if value.shape == () and unit_roundoff(value.dtype) < unit_roundoff(dtype):
        # A Python number, which torch holds in double, or a 0-d tensor of a wider format: torch
        # rounds it on use.
        return _scalar(dtype, arithmetic, array.item())
    return Bounded(array, arithmetic)


def _scalar(dtype: str, arithmetic: Arithmetic, number: complex) -> Any:
    """Return a Python number as an operand: rounded, with its error, if the format cannot hold it.

    Rounded, because comparisons with it happen after rounding.
    """
    if not np.isfinite(number):
        return number
    rounded = round_to(np.asarray(number), dtype)
    off = np.abs(number - rounded)
    return number if off == 0 else Bounded(rounded, arithmetic, off, off)
