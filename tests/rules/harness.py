"""One sample, run once: by torch, and as a tape of one call for the rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness._errors import Unjudgeable
from gradwitness.capture.calls.convolutions import CONVOLUTIONS, adds_in_parts
from gradwitness.capture.memory.arrays import as_array, dtype_name
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import bind, recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import wide
from gradwitness.engine.forward import evaluate, over_field, run
from gradwitness.tape import Argument, Call, Ref, Tape, Value
from refusals import torch_alone
from rules.samples import SAMPLES, Draw, Sample
from rules.sampling import Made

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Bound
    from gradwitness.engine.floats import Arithmetic

# Length of the chosen axis where a test does not care for it.
LENGTH = 5


def numbers(tensor: torch.Tensor) -> NDArray[Any]:
    """The numbers of a tensor that has some."""
    array = as_array(tensor)
    assert array is not None
    return array


@dataclass(frozen=True)
class Case:
    """A sample with numbers.

    ``leaves`` are the tensors that stand for the rule's operands, by operand (``x``, or
    ``tensors[1]`` in a list); ``gs`` holds a random cotangent for each result, in numbers of the
    case's format, and None for a result that is not differentiable.
    """

    sample: Sample
    dtype: str
    tape: Tape
    call: Call
    leaves: dict[str, torch.Tensor]
    outputs: tuple[torch.Tensor, ...]
    gs: tuple[torch.Tensor | None, ...]
    args: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the results: ``y``, or ``y[0]``, ``y[1]``, ..."""
        several = [f"y[{place}]" for place in range(len(self.outputs))]
        return ("y",) if len(self.outputs) == 1 else tuple(several)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the results that have elements, and that the rule speaks of.

        Of a rule that fails all of them: tests are collected, and its own say how it fails.
        """
        try:
            made = evaluate(self.tape, self.call, recorded(self.tape), bounded=False)
        except Unjudgeable:
            made = self.results
        results = zip(self.names, self.outputs, made, strict=True)
        return tuple(name for name, y, value in results if y.numel() and value is not None)

    @property
    def results(self) -> tuple[NDArray[Any], ...]:
        """What torch computed."""
        return tuple(map(numbers, self.outputs))

    @property
    def result(self) -> Any:
        """The recorded result as a rule gets it: alone, or all results."""
        return self.results[0] if len(self.outputs) == 1 else self.results

    @property
    def cotangents(self) -> tuple[NDArray[np.float64] | None, ...]:
        """The cotangents in float64."""
        return tuple(None if g is None else wide(numbers(g)) for g in self.gs)

    @property
    def cotangent(self) -> Any:
        """The cotangent as a rule gets it: alone, or all, with zeros where there is none."""
        filled = tuple(
            np.zeros(y.shape) if g is None else g
            for g, y in zip(self.cotangents, self.results, strict=True)
        )
        return filled[0] if len(filled) == 1 else filled

    def bound(self, arithmetic: Arithmetic | None = None) -> Bound:
        """The rule with its arguments."""
        return bind(self.tape, self.call, recorded(self.tape), arithmetic=arithmetic)

    @cached_property
    def plain(self) -> Bound:
        """The rule with its arguments in float64."""
        return self.bound()

    def inputs(self) -> list[str]:
        """Names of the differentiable inputs in the order of a node's edges."""
        return [_label(name, place) for name, place, _ in self.plain.inputs()]

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Operands that are tensors of real numbers and have a vjp."""
        return tuple(
            _label(name, place)
            for name, place, arg in self.plain.inputs()
            if isinstance(arg, Ref) and self.leaves[_label(name, place)].requires_grad
        )

    def values(self) -> tuple[Any, ...]:
        """The rule's values with their bounds, as one kernel in the case's format."""
        return self._values

    @cached_property
    def _values(self) -> tuple[Any, ...]:
        return evaluate(self.tape, self.call, recorded(self.tape), bounded=True)

    def value(self) -> Any:
        """The only one of the rule's values."""
        (value,) = self.values()
        return value

    def gradients(
        self, operands: Iterable[str], arithmetic: Arithmetic | None = None
    ) -> dict[str, Any]:
        """The rule's gradients of some operands, each in the operand's shape."""
        gs = [
            g if g is None or arithmetic is None else Bounded(g, arithmetic)
            for g in self.cotangents
        ]
        input_nrs, asked = self.inputs(), set(operands)
        if not asked:
            return {}
        wanted = [name in asked for name in input_nrs]
        found = vjp(self.tape, self.call, gs, recorded(self.tape), arithmetic, wanted)
        return {name: g for name, g, want in zip(input_nrs, found, wanted, strict=True) if want}

    def gradient(self, operand: str, arithmetic: Arithmetic | None = None) -> Any:
        """The rule's gradient of one operand, in the operand's shape."""
        return self.gradients([operand], arithmetic)[operand]

    def torch_gradients(self, operands: Iterable[str]) -> dict[str, NDArray[Any]]:
        """torch.autograd's gradients of some operands."""
        asked = tuple(operands)
        if not asked:
            return {}
        pairs = [(y, g) for y, g in zip(self.outputs, self.gs, strict=True) if g is not None]
        with torch_alone():
            found = torch.autograd.grad(
                [y for y, _ in pairs],
                [self.leaves[operand] for operand in asked],
                [g for _, g in pairs],
                retain_graph=True,
                materialize_grads=True,
            )
        return dict(zip(asked, map(numbers, found), strict=True))

    def torch_gradient(self, operand: str) -> NDArray[Any]:
        """torch.autograd's gradient of one operand."""
        return self.torch_gradients([operand])[operand]

    def weighed(self, items: Any) -> NDArray[np.float64]:
        """What belongs to the results that have a cotangent, one number after the other.

        Of complex ones both parts: the sum of products of parts is what a gradient is of.
        """
        kept = [item for item, g in zip(items, self.gs, strict=True) if g is not None]
        return np.concatenate([np.ravel(parts(np.asarray(item))) for item in kept])

    def values_of(self, operand: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rule's weighed values with one operand replaced, in float64.

        Of a complex operand both parts are given, along one axis more.
        """
        bound = self.plain
        if self.leaves[operand].is_complex():
            x = x[..., 0] + 1j * x[..., 1]
        x = self.within(operand, x)
        operands = list(bound.operands)
        name, _, place = operand.rstrip("]").partition("[")
        at = bound.rule.operands.index(name)
        if place:
            items = list(operands[at])
            items[int(place)] = x
            operands[at] = tuple(items)
        else:
            operands[at] = x
        for follower, array in self._followers(operand, x):
            operands[bound.rule.operands.index(follower)] = array
        made = run("the rule", bound.rule.function, *operands, **bound.parameters)
        made = made if isinstance(made, (tuple, list)) else (made,)
        return self.weighed(
            item if g is None else over_field(item, dtype_name(g))
            for item, g in zip(made, self.gs, strict=True)
        )

    def within(self, operand: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """An operand, or a gradient, within those that are meant (all symmetric ones, say)."""
        pairs = zip(self.sample.args, self.args, strict=True)
        moved = self.leaves[operand]
        drawn = (d for d, arg in pairs if arg is moved and isinstance(d, Draw))
        return next((d.within(x) for d in drawn), x)

    def _followers(
        self, operand: str, x: NDArray[np.float64]
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """The operands that follow from one which takes other numbers, with theirs."""
        if not any(isinstance(draw, Made) for draw in self.sample.args):
            return
        moved = self.leaves[operand]
        args = [x if arg is moved else _plain(arg) for arg in self.args]
        for draw, arg in zip(self.sample.args, self.args, strict=True):
            names = [name for name, leaf in self.leaves.items() if leaf is arg]
            if isinstance(draw, Made) and names:
                yield names[0], draw.of(*args)

    def operand(self, name: str) -> NDArray[Any]:
        """The numbers of an operand in float64, or complex128."""
        return wide(numbers(self.leaves[name]))


def make(sample: Sample, dtype: str = "float64", seed: int = 0, length: int = LENGTH) -> Case:
    """Draw the operands of a sample in a format, run torch on them, and write the tape."""
    rng = np.random.default_rng(seed)
    kind: torch.dtype = getattr(torch, dtype)
    values: list[Value] = []
    leaves: dict[int, torch.Tensor] = {}

    def value(tensor: torch.Tensor) -> int:
        array = numbers(tensor).copy()
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

    args = [_drawn(arg, rng, length, kind) for arg in sample.args]
    args = [_followed(arg, args, kind) for arg in args]
    takes_dtype = any(argument.name == "dtype" for argument in sample.op._schema.arguments)
    kwargs = {name: _drawn(arg, rng, length, kind) for name, arg in sample.kwargs.items()}
    made_in = complex_kind(kind) if sample.planar else kind
    kwargs = {"dtype": made_in, **kwargs} if takes_dtype else kwargs
    given = {**dict(zip(_names(sample), args, strict=False)), **kwargs}
    full = {
        a.name: given.get(a.name, a.default_value if a.has_default_value() else None)
        for a in sample.op._schema.arguments
    }
    arguments = {argument: convert(item) for argument, item in full.items()}
    if sample.op in CONVOLUTIONS and adds_in_parts(full):
        arguments["in_parts"] = True
    writes = tuple(
        a.name for a in sample.op._schema.arguments if a.alias_info and a.alias_info.is_write
    )
    # A leaf cannot be changed in place.
    changed = [_cloned(a) if name in writes else a for name, a in zip(given, args, strict=False)]
    run_by = sample.double if sample.double and dtype == "float64" else sample.op
    with torch_alone():
        made = run_by(*changed, **kwargs)
    if made is None:  # what it wrote to, as the recorder has it
        written = (a for name, a in zip(given, changed, strict=False) if name in writes)
        made = [tensor for a in written for tensor in (a if isinstance(a, list) else [a])]
    outputs = tuple(made) if isinstance(made, (tuple, list)) else (made,)
    gs = tuple(
        None if f"y[{place}]" in sample.constant else _random_cotangent(y, rng, kind)
        for place, y in enumerate(outputs)
    )
    call = Call(0, str(sample.op), arguments, tuple(map(value, outputs)), writes=writes)
    tape = Tape(tuple(values), (call,), (), ())
    bound = bind(tape, call, recorded(tape), arithmetic=None)
    named = {
        _label(name, place): leaves[item.value]
        for name, argument in zip(bound.rule.operands, bound.arguments, strict=True)
        for place, item in _items(argument)
        if isinstance(item, Ref)
    }
    return Case(sample, dtype, tape, call, named, outputs, gs, tuple(args))


def _drawn(argument: Any, rng: np.random.Generator, length: int, kind: torch.dtype) -> Any:
    """Make tensors of what is to be drawn; those of real numbers require a gradient."""
    if isinstance(argument, (list, tuple)):
        return [_drawn(item, rng, length, kind) for item in argument]
    if isinstance(argument, Made) or not isinstance(argument, Draw):
        return argument
    tensor = torch.from_numpy(argument.make(rng, length))
    if tensor.is_complex():
        return tensor.to(complex_kind(kind)).requires_grad_(not argument.constant)
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(kind).requires_grad_(not argument.constant)


def parts(x: NDArray[Any]) -> NDArray[np.float64]:
    """The parts of complex numbers, along one axis more; real numbers as they are."""
    if x.dtype.kind == "c":
        return np.stack([x.real, x.imag], axis=-1)
    return np.asarray(x, dtype=np.float64)


def complex_kind(kind: torch.dtype) -> torch.dtype:
    """The format of complex numbers with parts of some format."""
    return torch.complex128 if kind is torch.float64 else torch.complex64


def _plain(argument: Any) -> Any:
    """Return the numbers of a tensor, real ones in float64, and anything else as it is."""
    if not isinstance(argument, torch.Tensor):
        return argument
    array = numbers(argument)
    return wide(array) if argument.is_floating_point() or argument.is_complex() else array


def _followed(argument: Any, args: list[Any], kind: torch.dtype) -> Any:
    """Make a tensor of what follows from the other arguments."""
    if not isinstance(argument, Made):
        return argument
    tensor = torch.from_numpy(np.asarray(argument.of(*map(_plain, args)))).to(kind)
    return tensor.requires_grad_(not argument.constant)


def _cloned(argument: Any) -> Any:
    """Copy a tensor, or each of a list."""
    return [a.clone() for a in argument] if isinstance(argument, list) else argument.clone()


def _random_cotangent(
    y: torch.Tensor, rng: np.random.Generator, kind: torch.dtype
) -> torch.Tensor | None:
    if y.is_complex():
        both = rng.standard_normal((*y.shape, 2))
        return torch.view_as_complex(torch.from_numpy(both)).to(complex_kind(kind))
    if not y.is_floating_point():
        return None
    return torch.from_numpy(np.asarray(rng.standard_normal(tuple(y.shape)))).to(kind)


def _items(argument: Argument) -> Iterator[tuple[int | None, Argument]]:
    if isinstance(argument, tuple):
        yield from enumerate(argument)
    else:
        yield None, argument


def _label(name: str, place: int | None) -> str:
    return name if place is None else f"{name}[{place}]"


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
