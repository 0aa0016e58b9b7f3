"""What of a recorded call follows from its operation, and the forms of its tensors, alone.

Most steps of a program are like others of it. So their rule, which arguments are its operands, and
what their sizes say, is worked out once for all that are alike. Forms hold no numbers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness import rules
from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import is_complex
from gradwitness.rules.elementwise.complex_numbers import COMPLEX
from gradwitness.rules.registry import ELEMENTWISE
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.tape import Argument, Call, Value

# Shape and format of a tensor.
Kind: TypeAlias = "tuple[tuple[int, ...], str]"
# Of an argument that is no tensor its type; of a list those of its elements.
Argued: TypeAlias = "Kind | type | tuple[Any, ...]"
# A differentiable input: the operand, and the index within a list of tensors.
Place: TypeAlias = "tuple[str, int | None]"
# A differentiable input with the argument.
Input: TypeAlias = "tuple[str, int | None, Argument]"

# Schema arguments about where a tensor lives or how it is stored, not about its numbers.
_PLACEMENT = frozenset(
    [
        "dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "implicit",
        "requires_grad", "out",
    ]
)  # fmt: skip
# The same memory in another format: no rule for numbers says what becomes of them.
BITS = frozenset(["aten.view.dtype", "aten.view_copy.dtype"])
# A program whose shapes change all the time has many forms, of which few come again.
MOST = 2**10


@dataclass(frozen=True, eq=False)
class Form:
    """An operation, and the forms of what it takes and makes.

    Attributes
    ----------
    rule : Rule
    names : tuple of str
        The schema's names of its arguments.
    argued : tuple
        What each of these is.
    outputs : tuple of (Kind or None)
    positional : tuple of str
        The schema's names of those that are the rule's operands.
    parameters : tuple of str
        The names of those that are the rule's parameters.
    """

    rule: rules.Rule
    names: tuple[str, ...]
    argued: tuple[Argued, ...]
    outputs: tuple[Kind | None, ...]
    positional: tuple[str, ...]
    parameters: tuple[str, ...]

    @functools.cached_property
    def operands(self) -> dict[str, Argued]:
        """What each of the rule's operands is."""
        argued = dict(zip(self.names, self.argued, strict=True))
        return {
            name: argued[schema]
            for name, schema in zip(self.rule.operands, self.positional, strict=True)
        }

    @functools.cached_property
    def tensors(self) -> tuple[Kind, ...]:
        """The results, and the tensors among the arguments, those in lists included."""
        made = [kind for kind in self.outputs if kind is not None]
        return (*made, *(kind for argued in self.argued for kind in _tensors(argued)))

    @functools.cached_property
    def formats(self) -> frozenset[str]:
        """The formats of its tensors."""
        return frozenset([dtype for _, dtype in self.tensors])

    @functools.cached_property
    def largest(self) -> int:
        """How many numbers the largest tensor has."""
        return max((math.prod(shape) for shape, _ in self.tensors), default=0)

    @functools.cached_property
    def alone(self) -> int:
        """How many of its arguments are tensors."""
        return sum(map(is_tensor, self.argued))

    @functools.cached_property
    def listed(self) -> int:
        """How many tensors it takes in lists."""
        return len([kind for argued in self.argued for kind in _tensors(argued)]) - self.alone

    @functools.cached_property
    def is_empty(self) -> bool:
        """Whether it takes a tensor without elements."""
        return any(0 in shape for argued in self.argued for shape, _ in _tensors(argued))

    @functools.cached_property
    def over_complex(self) -> bool:
        """Whether it has complex operands or results; lists of tensors do not count."""
        kinds: tuple[Any, ...] = (*self.argued, *self.outputs)
        return any(is_complex(kind[1]) for kind in kinds if is_tensor(kind))

    @functools.cached_property
    def by_element(self) -> bool:
        """Whether each number of the result is made of one of each operand."""
        if self.rule.apart != ELEMENTWISE or not self.outputs or self.outputs[0] is None:
            return False
        shapes = [shape for argued in self.argued for shape, _ in _tensors(argued)]
        try:
            return self.outputs[0][0] == np.broadcast_shapes(*shapes)
        except ValueError:
            return False

    def inputs(self, call: Call) -> list[Input]:
        """Return the differentiable inputs of a call of this form, in the order of a node's edges.

        Each is the operand's name, the index within a list of tensors, and the argument. An omitted
        argument (None) has an edge if it stands for a tensor, none if for a number.
        """
        arguments = call.arguments
        found: list[Input] = []
        for (name, index), schema in self.edges():
            argument: Any = arguments[schema]
            found.append((name, index, argument if index is None else argument[index]))
        return found

    def edges(self) -> tuple[tuple[Place, str], ...]:
        """Return the operand, and the index in a list, of each edge; and the schema's name."""
        # A rule of the program's may get further vjps, but loses none.
        return _edges(self, len(self.rule.gradients), len(self.rule.refused))


def is_tensor(argued: Any) -> bool:
    """Whether an argument is a tensor, from what it is."""
    return type(argued) is tuple and len(argued) == 2 and type(argued[1]) is str


def _tensors(argued: Any) -> Iterator[Kind]:
    if is_tensor(argued):
        yield argued
    elif type(argued) is tuple:
        for element in argued:
            yield from _tensors(element)


def form_of(values: Sequence[Value], call: Call) -> Form:
    """Return the form of a call on some values.

    Raises
    ------
    Unjudgeable
        If it has no rule, or none that covers it.
    """
    known: dict[object, Form] | None = getattr(values, "forms", None)
    if known is None:
        return _worked_out(values, call)
    form = known.get(key := key_of(call))
    if form is None:
        form = known[key] = _worked_out(values, call)
    return form


def key_of(call: Call) -> object:
    """Return by what the forms of calls on some values are known."""
    # (A call on lists of tensors has members of its number.)
    return call.id, call.op, call.outputs


def _worked_out(values: Sequence[Value], call: Call) -> Form:
    rule = None if call.op in BITS else rules.find(call.base_op)
    if rule is None:
        raise Unjudgeable(f"no rule for {call.op}")
    arguments, outputs = call.arguments, []
    argued = [
        (values[a.value].shape, values[a.value].dtype) if isinstance(a, Ref) else _argued(values, a)
        for a in arguments.values()
    ]
    for number in call.outputs:
        value = None if number is None else values[number]
        outputs.append(None if value is None else (value.shape, value.dtype))
    return _form(rule, call.op, (*arguments,), (*argued,), (*outputs,))


def _argued(values: Sequence[Value], argument: Argument) -> Argued:
    if isinstance(argument, Ref):
        value = values[argument.value]
        return value.shape, value.dtype
    if isinstance(argument, tuple):
        return tuple([_argued(values, element) for element in argument])
    return type(argument)


def schema_names(rule: rules.Rule, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return, of the schema's names of arguments, those that are a rule's operands."""
    others = rule.no_operands
    return tuple([n for n in names if n not in others and n not in _PLACEMENT])


@functools.lru_cache(maxsize=MOST)
def _form(
    rule: rules.Rule,
    op: str,
    names: tuple[str, ...],
    argued: tuple[Argued, ...],
    outputs: tuple[Kind | None, ...],
) -> Form:
    positional = schema_names(rule, names)
    form = Form(
        rule, names, argued, outputs, positional, tuple(n for n in rule.parameters if n in names)
    )
    if rule.name not in COMPLEX and form.over_complex:
        raise Unjudgeable(f"no rule for complex numbers: {op}")
    if len(positional) != len(rule.operands):
        raise Unjudgeable(f"the rule of {rule.name} does not cover this form of {op}")
    return form


@functools.lru_cache(maxsize=MOST)
def _edges(form: Form, vjps: int, refusals: int) -> tuple[tuple[Place, str], ...]:
    del vjps, refusals
    differentiable, refused = form.rule.gradients, form.rule.refused
    found: list[tuple[Place, str]] = []
    numbers = any(
        isinstance(argued, type) and issubclass(argued, (int, float, complex))
        for name, argued in form.operands.items()
        if name in differentiable
    )
    for (name, argued), schema in zip(form.operands.items(), form.positional, strict=True):
        if name not in differentiable and name not in refused:
            continue
        if is_tensor(argued) or (argued is type(None) and not numbers):
            found.append(((name, None), schema))
        elif type(argued) is tuple:
            found += [((name, index), schema) for index in range(len(argued))]
    return tuple(found)
