"""One sample, run once: by torch, and as a tape of one call for the rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.capture.arrays import as_array, dtype_name
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import bind, recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import evaluate, run
from gradwitness.tape import Argument, Call, Ref, Tape, Value
from rules.samples import SAMPLES, Draw, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.binding import Bound
    from gradwitness.engine.floats import Arithmetic

# Length of the chosen axis where a test does not care for it.
LENGTH = 5


@dataclass(frozen=True)
class Case:
    """A sample with numbers.

    ``leaves`` are the tensors that stand for the rule's operands, by operand; ``g`` is a random
    cotangent of the result, in numbers of the case's format.
    """

    sample: Sample
    dtype: str
    tape: Tape
    call: Call
    leaves: dict[str, torch.Tensor]
    output: torch.Tensor
    g: torch.Tensor

    @property
    def result(self) -> NDArray[Any]:
        """What torch computed."""
        return as_array(self.output)

    @property
    def cotangent(self) -> NDArray[np.float64]:
        """The cotangent in float64."""
        return as_array(self.g).astype(np.float64)

    def bound(self, arithmetic: Arithmetic | None = None) -> Bound:
        """The rule with its arguments."""
        return bind(self.tape, self.call, recorded(self.tape), arithmetic=arithmetic)

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Operands that are tensors and have a vjp."""
        return tuple(name for name, _, arg in self.bound().slots() if isinstance(arg, Ref))

    def value(self) -> Any:
        """The rule's value with its bound, as one kernel in the case's format."""
        (value,) = evaluate(self.tape, self.call, recorded(self.tape), bounded=True)
        return value

    def gradient(self, operand: str, arithmetic: Arithmetic | None = None) -> Any:
        """The rule's gradient of one operand, in the operand's shape."""
        g = self.cotangent if arithmetic is None else Bounded(self.cotangent, arithmetic)
        names = [name for name, _, _ in self.bound().slots()]
        wanted = [name == operand for name in names]
        found = vjp(self.tape, self.call, (g,), recorded(self.tape), arithmetic, wanted)
        return found[names.index(operand)]

    def torch_gradient(self, operand: str) -> NDArray[Any]:
        """torch.autograd's gradient of one operand."""
        (found,) = torch.autograd.grad(
            self.output, self.leaves[operand], self.g, retain_graph=True, materialize_grads=True
        )
        return as_array(found)

    def value_of(self, operand: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rule's value with one operand replaced, in float64."""
        bound = self.bound()
        operands = list(bound.operands)
        operands[bound.rule.operands.index(operand)] = x
        return np.asarray(run(bound.rule.function, *operands, **bound.parameters))

    def operand(self, name: str) -> NDArray[np.float64]:
        """The numbers of an operand in float64."""
        return as_array(self.leaves[name]).astype(np.float64)


def make(sample: Sample, dtype: str = "float64", seed: int = 0, length: int = LENGTH) -> Case:
    """Draw the operands of a sample in a format, run torch on them, and write the tape."""
    rng = np.random.default_rng(seed)
    kind: torch.dtype = getattr(torch, dtype)
    values: list[Value] = []
    leaves: dict[int, torch.Tensor] = {}

    def value(tensor: torch.Tensor) -> int:
        array = as_array(tensor).copy()
        values.append(Value(len(values), tuple(tensor.shape), dtype_name(tensor), array))
        return len(values) - 1

    def convert(argument: Any) -> Argument:
        if isinstance(argument, torch.Tensor):
            number = value(argument)
            leaves[number] = argument
            return Ref(number)
        if isinstance(argument, (list, tuple)):
            return tuple(map(convert, argument))
        return str(argument) if isinstance(argument, torch.dtype) else argument

    args = [
        torch.from_numpy(arg.make(rng, length)).to(kind).requires_grad_()
        if isinstance(arg, Draw)
        else arg
        for arg in sample.args
    ]
    takes_dtype = any(argument.name == "dtype" for argument in sample.op._schema.arguments)
    kwargs = {**sample.kwargs, "dtype": kind} if takes_dtype else sample.kwargs
    given = {**dict(zip(_names(sample), args, strict=False)), **kwargs}
    arguments = {
        a.name: convert(given.get(a.name, a.default_value if a.has_default_value() else None))
        for a in sample.op._schema.arguments
    }
    writes = tuple(
        a.name for a in sample.op._schema.arguments if a.alias_info and a.alias_info.is_write
    )
    # A leaf cannot be changed in place.
    changed = [a.clone() if name in writes else a for name, a in zip(given, args, strict=False)]
    output = sample.op(*changed, **kwargs)
    g = torch.from_numpy(np.asarray(rng.standard_normal(tuple(output.shape)))).to(kind)
    call = Call(0, str(sample.op), arguments, (value(output),), writes=writes)
    tape = Tape(tuple(values), (call,), (), ())
    bound = bind(tape, call, recorded(tape), arithmetic=None)
    named = {
        name: leaves[argument.value]
        for name, argument in zip(bound.rule.operands, bound.arguments, strict=True)
        if isinstance(argument, Ref)
    }
    return Case(sample, dtype, tape, call, named, output, g)


def _names(sample: Sample) -> list[str]:
    return [argument.name for argument in sample.op._schema.arguments]


@cache
def pairs() -> list[tuple[Sample, str]]:
    """Every sample with every operand of it that has a gradient."""
    return [(sample, operand) for sample in SAMPLES for operand in make(sample).differentiable]


def name(item: Sample | tuple[Sample, str]) -> str:
    """The id of a test's parameter."""
    if isinstance(item, Sample):
        return item.name
    sample, operand = item
    return f"{sample.name}: d{operand}"
