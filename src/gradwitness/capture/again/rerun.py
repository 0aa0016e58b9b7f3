"""A custom function with its operands, run again after the block."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness._errors import Unjudgeable
from gradwitness.capture.again.aside import aside, attempt, numbers_of
from gradwitness.capture.again.fuzzing import Refunction
from gradwitness.capture.again.purity import TALKS, impurity, impurity_of_backward, untried
from gradwitness.capture.calls.source import tensors_in
from gradwitness.engine.floats import is_float
from gradwitness.judging.fuzz.drawn import Drawn, memory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Value


@dataclass(frozen=True)
class Held:
    """A tensor that a function was applied to, held by its number instead of the object."""

    value: int
    device: torch.device


@dataclass(frozen=True)
class HeldModule:
    """A module that a function was applied to, with its parameters and buffers, by name."""

    module: torch.nn.Module
    state: dict[str, Held]

    def alive(self, tensor: Callable[[Held], torch.Tensor]) -> torch.nn.Module:
        """Return a copy of it whose parameters and buffers are given tensors."""
        copied = copy.deepcopy(self.module)
        for name, own in (*copied.named_parameters(), *copied.named_buffers()):
            own.data = tensor(self.state[name])
        return copied


@dataclass(frozen=True)
class Application:
    """One use of a custom function: its class and arguments."""

    function: Any
    arguments: tuple[Any, ...]

    named: dict[str, Any] = field(default_factory=dict)
    called: str = ""  # file:line that applied it

    def tensors(self) -> list[Held]:
        """Return the tensors that have an edge, in order."""
        if isinstance(self.function, torch._ops.OpOverload):
            # A registered operator flattens lists.
            return [*held_in((*self.arguments, *self.named.values()))]
        return [argument for argument in self.arguments if isinstance(argument, Held)]


class Rerun:
    """A function with copies of its operands, to be run again in float64 after the block.

    Attributes
    ----------
    values : dict of int to Value
    """

    def __init__(
        self,
        application: Application,
        values: dict[int, Value],
        effect: str,
        allowed: bool | None,
        names: Sequence[str] = (),
    ) -> None:
        self._application = application
        self._names = names
        self._effect = effect
        self._allowed = allowed
        self.values = values

    def refusal(self) -> str:
        """Return why it may not run again; empty if it may."""
        application = self._application
        if self._effect.startswith(TALKS):
            return self._effect
        if self._allowed is not None:
            return "" if self._allowed else "with rerun=False nothing runs again"
        arguments = [_without_tensors(argument) for argument in application.arguments]
        why = self._effect or impurity(application.function, arguments)
        name = name_of(application.function)
        return why and (
            f"it did not run again, since {why}: if it may, after the block, say "
            f"watch(..., rerun=[{name!r}]) or --rerun {name}"
        )

    def run(self, moved: Mapping[int, NDArray[np.float64]]) -> list[Any]:
        """Run it with some operands (by value) replaced.

        Raises
        ------
        Unjudgeable
            If that fails, or the results are in another format.
        """
        with aside():
            results, _ = self._applied(moved)
        return [numbers_of(result) for result in results]

    def sent(self, operand: int, incoming: Sequence[NDArray[np.float64] | None]) -> NDArray[Any]:
        """Return what its own backward sends to an operand, run in float64 as its forward is.

        Raises
        ------
        Unjudgeable
            If it may not run again, or that fails.
        """
        why = self.refusal() or impurity_of_backward(self._application.function)
        if why:
            raise Unjudgeable(why)
        with aside(), torch.enable_grad():
            results, tensors = self._applied({}, operand)
            pairs = [
                (y, torch.from_numpy(g.copy()).to(y.device))
                for y, g in zip(results, incoming, strict=False)
                if g is not None and y is not None and y.requires_grad
            ]
            outputs, given = zip(*pairs, strict=True) if pairs else ((), ())
            # The program's own formula, not torch's: the graph is this function alone.
            (sent,) = attempt(lambda: torch.autograd.grad(outputs, tensors[operand], given))
        numbers = numbers_of(sent)
        assert numbers is not None  # noqa: S101 (torch returns a tensor, or raises)
        return numbers

    def elsewhere(self, operand: int) -> tuple[Refunction, bool]:
        """Return it as a function of other inputs, and whether they may have other shapes.

        Raises
        ------
        Unjudgeable
            If it may not run there.
        """
        application = self._application
        held = {one.value: one for one in application.tensors()}
        arguments = [_without_tensors(argument) for argument in application.arguments]
        unknown = self._effect or untried(application.function, arguments)
        why = self.refusal() or unknown * (not self._allowed)
        if why:
            raise Unjudgeable(why)
        given = {}
        for number in held:
            array = self.values[number].array
            if array is None or array.dtype.kind == "c" or self.values[number].sparse:
                raise Unjudgeable("its operands are complex, sparse or not known")
            kept = array.astype(np.float64) if is_float(self.values[number].dtype) else array
            given[number] = Drawn(kept, memory_of(self.values[number]))
        names = {one.value: k for k, one in reversed([*enumerate(application.tensors())])}
        said = {
            n: f"{self._names[k]} (input {k})" if self._names else f"input {k}"
            for n, k in names.items()
        }
        subject = Refunction(
            lambda tensors: self._applied({}, placed=tensors)[0],
            given,
            said,
            (operand,),
            {n: one.device for n, one in held.items()},
        )
        return subject, not unknown

    def _applied(
        self,
        moved: Mapping[int, NDArray[np.float64]],
        graded: int | None = None,
        placed: Mapping[int, torch.Tensor] | None = None,
    ) -> tuple[list[torch.Tensor | None], dict[int, torch.Tensor]]:
        """Return its results, and its operands by value, of which one may need a gradient."""
        application = self._application
        tensors: dict[int, torch.Tensor] = dict(placed or {})

        def alive(argument: Any) -> Any:
            if isinstance(argument, Held):
                number = argument.value
                if number not in tensors:
                    tensor = self._tensor(argument, moved.get(number))
                    tensors[number] = tensor.requires_grad_(number == graded)
                return tensors[number]
            if isinstance(argument, HeldModule):
                return argument.alive(alive)
            if type(argument) in (tuple, list):
                return type(argument)(alive(element) for element in argument)
            return argument

        arguments = [alive(argument) for argument in application.arguments]
        named = {name: alive(argument) for name, argument in application.named.items()}
        run = getattr(application.function, "apply", application.function)
        results = attempt(lambda: run(*arguments, **named))
        return [*tensors_in(results, keep_none=True)], tensors

    def _tensor(self, held: Held, moved: NDArray[np.float64] | None) -> torch.Tensor:
        value = self.values[held.value]
        if value.sparse:
            # Slopes along all its numbers are not those along the ones that it names.
            raise Unjudgeable("slopes are not measured for functions of sparse tensors")
        array: Any = value.array if moved is None else moved
        if array is None:
            raise Unjudgeable(f"the numbers of a {value.dtype} tensor were not recorded")
        dtype = np.float64 if is_float(value.dtype) else array.dtype
        return torch.from_numpy(np.array(array, dtype=dtype, order="C")).to(held.device)


def name_of(function: Any) -> str:
    """Return a function's name as the program knows it: ``Solver``, ``mylib::solve``."""
    if isinstance(function, torch._ops.OpOverload):
        return str(function._schema.name)
    return str(getattr(function, "__name__", function))


def _without_tensors(argument: Any) -> Any:
    """Return an argument with None for each tensor: those are copied."""
    if isinstance(argument, Held):
        return None
    if isinstance(argument, HeldModule):
        return argument.module
    if type(argument) in (tuple, list):
        return tuple(map(_without_tensors, argument))
    return argument


def held_in(argument: Any) -> Iterator[Held]:
    """Yield the tensors of an argument, which may be a module or a list of them."""
    if isinstance(argument, Held):
        yield argument
    elif isinstance(argument, HeldModule):
        yield from argument.state.values()
    elif type(argument) in (tuple, list):
        for element in argument:
            yield from held_in(element)
