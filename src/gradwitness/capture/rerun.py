"""A program's own functions, run again: for those that no rule can differentiate."""

from __future__ import annotations

import contextlib
import inspect
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness._errors import Unjudgeable
from gradwitness.capture.source import open_functions, tensors_in
from gradwitness.engine.floats import is_float
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.capture.drafts import CallDraft, NodeDraft
    from gradwitness.capture.values import ValueStore
    from gradwitness.tape import Argument

# Where torch makes the functions of operators that `register_autograd` gave a backward.
_OPERATORS = "torch._library.autograd"


@dataclass(frozen=True)
class _Held:
    """A tensor that a function was applied to: its number keeps it, not the program's object."""

    value: int
    device: torch.device


@dataclass(frozen=True)
class _Application:
    """One use of a custom function: its class and arguments."""

    function: Any
    arguments: tuple[Any, ...]

    named: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[_Held]:
        """Return the tensors that an edge belongs to, in order."""
        if isinstance(self.function, torch._ops.OpOverload):
            # A registered operator takes lists apart.
            return [*_held_in((*self.arguments, *self.named.values()))]
        return [item for item in self.arguments if isinstance(item, _Held)]


class Applications:
    """Notes what custom functions are applied to, and runs them again in float64.

    Parameters
    ----------
    values : ValueStore
    calls : list of CallDraft
        May still be growing.
    """

    def __init__(self, values: ValueStore, calls: list[CallDraft]) -> None:
        self._values = values
        self._calls = calls
        self._by_call: dict[int, list[_Application]] = {}
        # The functions that run now: identity of the frame, and the arguments that it holds.
        self._running: dict[int, Any] = {}
        self._nodes: Sequence[NodeDraft] = ()

    def belong_to(self, nodes: Sequence[NodeDraft]) -> None:
        """Take the nodes that are asked for; may still be growing."""
        self._nodes = nodes

    @property
    def running(self) -> bool:
        """Whether the forward of a custom function ran at the last note."""
        return bool(self._running)

    def note(self, call: int) -> list[int]:
        """Note the functions that a call is the first one of; return the values they need."""
        frames = list(open_functions())
        known, self._running = self._running, {}
        new = []
        for frame in frames:
            arguments = frame.f_locals.get("args", ())
            if known.get(id(frame)) is not arguments:
                new.append(_Application(frame.f_locals["cls"], self._held(arguments)))
            self._running[id(frame)] = arguments
        if new:
            self._by_call.setdefault(call, []).extend(new)
        return [held.value for made in new for held in _held_in(made.arguments)]

    def forget(self, call: int) -> None:
        """Let go of the functions that began with a call."""
        self._by_call.pop(call, None)

    def _held(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return _Held(self._values.of(item), item.device)
        if type(item) in (tuple, list):
            return type(item)(self._held(each) for each in item)
        return item

    def operands(self, node: int) -> Sequence[int | None]:
        """Return the values of a node's inputs, in the order of its edges.

        Raises
        ------
        Unjudgeable
            If it is not known how its function was called.
        """
        found = [held.value for held in self._application(node).tensors()]
        if not self._nodes or len(found) != len(self._nodes[node].edges):
            raise Unjudgeable("the call of this function was not recorded")
        return found

    def function(self, node: int) -> type | None:
        """Return the class whose forward made a node, if one did."""
        draft = self._nodes[node] if self._nodes else None
        return None if draft is None else getattr(type(draft.alive), "_forward_cls", None)

    def arguments(self, node: int) -> dict[str, Argument]:
        """Return what a node's function was applied to, by the names of its forward.

        Raises
        ------
        Unjudgeable
            If it is not known how it was called.
        """
        made = self._application(node)
        function = made.function
        # Without setup_context, forward takes the context first.
        before = [None] * (function.setup_context is torch.autograd.Function.setup_context)
        bound = inspect.signature(function.forward).bind(*before, *made.arguments)
        bound.apply_defaults()
        return {name: _on_tape(item) for name, item in bound.arguments.items()}

    def run(self, node: int, moved: Mapping[int, NDArray[np.float64]]) -> list[Any]:
        """Run a node's forward again in float64, some operands (by value) replaced.

        Raises
        ------
        Unjudgeable
            If that fails, or the results are in another format.
        """
        made = self._application(node)
        tensors: dict[int, torch.Tensor] = {}

        def alive(item: Any) -> Any:
            if isinstance(item, _Held):
                if item.value not in tensors:
                    tensors[item.value] = self._tensor(item, moved.get(item.value))
                return tensors[item.value]
            if type(item) in (tuple, list):
                return type(item)(alive(each) for each in item)
            return item

        with _aside():
            arguments = [alive(item) for item in made.arguments]
            named = {name: alive(item) for name, item in made.named.items()}
            run = getattr(made.function, "apply", made.function)
            results = _attempt(lambda: run(*arguments, **named))
        return [_numbers(result) for result in tensors_in(results, keep_none=True)]

    def _application(self, node: int) -> _Application:
        if self._nodes:
            draft = self._nodes[node]
            function = getattr(type(draft.alive), "_forward_cls", None)
            if getattr(function, "__module__", "") == _OPERATORS and len(draft.inner) == 1:
                return self._operator(self._calls[draft.inner[0]])
            for call in draft.inner:
                for made in self._by_call.get(call, ()):
                    if made.function is function:
                        return made
        raise Unjudgeable("the call of this function was not recorded")

    def _operator(self, call: CallDraft) -> _Application:
        """Return the application of an operator of ``torch.library``, from the tape's arguments."""
        namespace, name, overload = call.op.split(".")
        function = getattr(getattr(getattr(torch.ops, namespace), name), overload)
        device = next(
            (
                held.device
                for made in self._by_call.values()
                for each in made
                for held in _held_in(each.arguments)
            ),
            torch.device("cpu"),
        )

        def held(item: Argument, kind: str) -> Any:
            if isinstance(item, Ref):
                return _Held(item.value, device)
            if isinstance(item, tuple):
                return [held(each, kind) for each in item]
            return _from_text(item, kind)

        places, named = [], {}
        for argument in function._schema.arguments:
            given = held(call.arguments[argument.name], str(argument.type))
            if argument.kwarg_only:
                named[argument.name] = given
            else:
                places.append(given)
        return _Application(function, tuple(places), named)

    def _tensor(self, held: _Held, moved: NDArray[np.float64] | None) -> torch.Tensor:
        value = self._values.value(held.value)
        array: Any = value.array if moved is None else moved
        if array is None:
            raise Unjudgeable(f"the numbers of a {value.dtype} tensor were not recorded")
        wanted = np.float64 if is_float(value.dtype) else array.dtype
        return torch.from_numpy(np.array(array, dtype=wanted, order="C")).to(held.device)


def _on_tape(item: Any) -> Any:
    if isinstance(item, _Held):
        return Ref(item.value)
    return tuple(map(_on_tape, item)) if type(item) in (tuple, list) else item


def _held_in(item: Any) -> Iterator[_Held]:
    if isinstance(item, _Held):
        yield item
    elif type(item) in (tuple, list):
        for each in item:
            yield from _held_in(each)


def _from_text(item: Any, kind: str) -> Any:
    """Return an argument of an operator as it was: the tape has dtypes and the like as text."""
    if isinstance(item, str) and kind.removeprefix("Optional[") != "str":
        name = item.removeprefix("torch.")
        return getattr(torch, name) if hasattr(torch, name) else torch.device(item)
    return item


def _attempt(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 (the program's own: it may refuse in any way)
        said = str(error).strip().partition("\n")[0]
        raise Unjudgeable(
            f"it does not run in float64 ({type(error).__name__}: {said[:120]})"
        ) from None


def _numbers(result: Any) -> NDArray[Any] | None:
    if not isinstance(result, torch.Tensor):
        return None
    if result.is_floating_point() and result.dtype is not torch.float64:
        name = str(result.dtype).removeprefix("torch.")
        raise Unjudgeable(f"it returns {name} for float64 inputs: no slope can be measured")
    array: NDArray[Any] = result.detach().cpu().numpy().copy()
    return array


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Let nothing show in the program: no recording, no graph, no random number used up.

    Raises
    ------
    Unjudgeable
        If random numbers were drawn: what is run again is another function then.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda._initialized else None
    state, plain = torch.get_rng_state(), random.getstate()
    numbers = np.random.get_state()  # noqa: NPY002 (the program may use it)
    try:
        with (
            torch._C._DisableTorchDispatch(),
            torch._C.DisableTorchFunction(),
            torch.no_grad(),
        ):
            yield
            drawn = random.getstate() != plain or not torch.equal(torch.get_rng_state(), state)
            now = np.random.get_state()  # noqa: NPY002
            if drawn or not all(map(np.array_equal, now, numbers)):
                raise Unjudgeable("it draws random numbers")
    finally:
        torch.set_rng_state(state)
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
