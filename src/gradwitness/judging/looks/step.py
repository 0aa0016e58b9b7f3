"""A recorded step as the fast looks need it, and the same step on other, smaller tensors."""

from __future__ import annotations

import itertools
import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import unrecorded
from gradwitness.engine.forms import form_of, key_of
from gradwitness.engine.step_arithmetic import is_in_order
from gradwitness.engine.tiling import SmallStep, letters
from gradwitness.rules.user_rules import is_own
from gradwitness.tape import Layout, Ref, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.forms import Form
    from gradwitness.tape import Argument, Call

    # A tensor's numbers, None if they are not needed, and their shape.
    Part = tuple[NDArray[Any] | None, tuple[int, ...]]
    # An operand's name, or a result's place.
    Role = str | int

# What a rule may ask of a step that smaller tensors do not tell.
_WHOLE = "memory"
# The lists of tensors of which a step has a part, by rule: there is one tensor in them.
_LISTS = {"aten.index": "indices"}


class Formless(Exception):
    """A step that has no form by which some of it could be looked at for all."""


class _Small(list[Value]):
    """The values of a step on smaller tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[object, Form] = {}


class Step:
    """A call with its rule and the values that it works on, each looked up once.

    Attributes
    ----------
    operands : dict of str to Value
        The tensors among the rule's operands.
    outputs : list of (Value or None)
    combined : dict
        Combinations of its tensors, as far as they were made, by value and axis, with the vectors.
    drawn : dict
        Places for gradients that are made at once, along axes of the same letters, and their share.
    sampled : dict
        What its node should send in some places, by these and whether with bounds.
    """

    def __init__(self, values: Sequence[Value], call: Call, form: Form) -> None:
        self.call, self.form, self.rule = call, form, form.rule
        self._schema = dict(zip(form.rule.operands, form.positional, strict=True))
        self.operands = operands_of(values, call, form)
        self.outputs = [None if n is None else values[n] for n in call.outputs]
        self._list = _LISTS.get(form.rule.name, "")
        self._listed = _only(values, call, self._schema.get(self._list, ""))
        self.combined: dict[Any, Any] = {}
        self.drawn: dict[Any, tuple[Any, float]] = {}
        self.sampled: dict[Any, tuple[Any, ...]] = {}

    @property
    def is_convolution(self) -> bool:
        """Whether its rule is the convolution's."""
        return self.rule.name == "aten.convolution"

    def together(self, operand: str) -> tuple[str, ...]:
        """Return the operands whose gradients the rule makes at once with that of one."""
        gradient = self.rule.gradients.get(operand)
        return () if gradient is None else gradient.together

    def inputs(self) -> list[tuple[str, int | None, Argument]]:
        """Return the differentiable inputs, see `Form.inputs`."""
        return self.form.inputs(self.call)

    @property
    def lists(self) -> int:
        """How many tensors it has in lists."""
        return int(self._listed is not None)

    def listing(self, operand: str) -> Value | None:
        """Return an operand that lists rows: a tensor, or a list with it in front, and no other."""
        return self._listed if operand == self._list else self.operands.get(operand)

    def letters(self, target: str = "") -> tuple[dict[str, str], tuple[str, ...]] | None:
        """Return the letters of the axes of operands and results, see `engine.tiling`."""
        first = self.outputs[0] if self.outputs else None
        if first is None:
            return None
        shapes = {name: value.shape for name, value in self.operands.items()}
        return letters(self.rule, self.call, shapes, first.shape, target)

    def on(
        self, part: Callable[[Role, Value], Part], wide: Callable[..., Any], *, bounded: bool
    ) -> SmallStep:
        """Return the step on other tensors; ``wide`` looks their numbers up on its tape.

        How they lie in memory is told for bounds alone, which depend on it.
        """
        small = _Small()

        def add(role: Role, value: Value) -> int:
            array, shape = part(role, value)
            layout = _dense(shape) if bounded and is_in_order(value) else None
            small.append(Value(len(small), shape, value.dtype, array, layout))
            return len(small) - 1

        arguments = dict(self.call.arguments)
        for name, value in self.operands.items():
            arguments[self._schema[name]] = Ref(add(name, value))
        if self._listed is not None:
            arguments[self._schema[self._list]] = (Ref(add(self._list, self._listed)),)
        outputs = tuple(
            None if value is None else add(place, value) for place, value in enumerate(self.outputs)
        )
        tape = Tape(values=small, calls=(), nodes=(), sweeps=())
        call = replace(self.call, arguments=arguments, outputs=outputs)
        # It has the rule of the whole, and arguments of the same kinds.
        small.forms[key_of(call)] = self.form
        return SmallStep(tape, call, wide(tape))


def operands_of(values: Sequence[Value], call: Call, form: Form) -> dict[str, Value]:
    """Return the tensors among a call's operands, by the rule's names."""
    given = zip(form.rule.operands, form.positional, strict=True)
    arguments = ((name, call.arguments[schema]) for name, schema in given)
    return {name: values[a.value] for name, a in arguments if isinstance(a, Ref)}


def _only(values: Sequence[Value], call: Call, argument: str) -> Value | None:
    """Return the tensor of a list that has no other, in front; None if that is not so."""
    given = call.arguments.get(argument)
    if not isinstance(given, tuple) or not given or not isinstance(given[0], Ref):
        return None
    return values[given[0].value] if all(other is None for other in given[1:]) else None


def step_of(values: Sequence[Value], call: Call) -> Step:
    """Return a call as a step.

    Raises
    ------
    Unjudgeable
        If it has no rule that covers it, or one of the program's.
    Formless
        If the rule needs all of its tensors.
    """
    form = form_of(values, call)
    rule = form.rule
    if is_own(call.base_op):
        raise Unjudgeable(f"no rule to look at {call.op} by")
    if _WHOLE in rule.parameters or call.arguments.get("in_parts"):
        raise Formless
    step = Step(values, call, form)
    # A tensor among the parameters would stay as it is.
    if (form.listed, form.alone) != (step.lists, len(step.operands)):
        raise Formless
    return step


def raw(tape: Tape) -> Lookup:
    """Return a lookup of numbers as they are."""

    def lookup(number: int) -> NDArray[Any]:
        array = tape.values[number].array
        if array is None:
            raise Unjudgeable(unrecorded(tape.values[number]))
        return array

    return lookup


def _dense(shape: tuple[int, ...]) -> Layout:
    steps = itertools.accumulate(reversed(shape[1:]), initial=1, func=operator.mul)
    return Layout(0, 0, tuple(reversed([*steps][: len(shape)])))
