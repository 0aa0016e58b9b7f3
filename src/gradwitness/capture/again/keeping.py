"""Save a program's state before a trial run, and restore it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn.modules import module as torch_module

from gradwitness.capture.calls.mode import Mode
from gradwitness.capture.calls.source import inside_function, tensors_in
from gradwitness.capture.memory.arrays import address
from gradwitness.capture.memory.balance import overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType


class Randomness:
    """The state of every generator of random numbers that training code commonly uses."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = torch.cuda.get_rng_state_all() if used else []
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002 (the program may use that one)

    def is_current(self) -> bool:
        """Whether no generator on the CPU has drawn a number since."""
        numpy = np.random.get_state()  # noqa: NPY002
        return (
            random.getstate() == self._python
            and torch.equal(torch.get_rng_state(), self._torch)
            and all(map(np.array_equal, numpy, self._numpy))
        )

    def restore(self) -> None:
        """Restore it."""
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002


@dataclass
class _Kept:
    """A tensor as it was: its memory, a copy of its numbers, and its ``.grad``."""

    tensor: torch.Tensor
    memory: torch.Tensor
    numbers: torch.Tensor
    requires_grad: bool
    grad: torch.Tensor | None
    grad_numbers: torch.Tensor | None

    def restore(self) -> None:
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)
        if not self.memory.is_set_to(self.tensor.data):
            self.tensor.data = self.memory
        _write(self.memory, self.numbers)
        if self.tensor.is_leaf:
            self.tensor.grad = self.grad
        if self.grad is not None and self.grad_numbers is not None:
            _write(self.grad.data, self.grad_numbers)


class Keeper(Mode):
    """While entered, remembers tensors and modules as they are when first met.

    It meets the given ones, the parameters and buffers of every module that runs, and every leaf
    that an operation reads. `restore` puts all of them back, bit for bit.

    Parameters
    ----------
    models : iterable of Module
        Met at once, like ``tensors``.
    moving : Generator or None
        If given, perturb each parameter as soon as it is met.
    before_move : callable
        Called with each tensor before it is perturbed.
    """

    def __init__(
        self,
        models: Iterable[torch.nn.Module] = (),
        tensors: Iterable[torch.Tensor] = (),
        moving: torch.Generator | None = None,
        before_move: Callable[[torch.Tensor], None] = lambda _: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._models = list(models)
        self._tensors = list(tensors)
        self._moving = moving
        self._before_move = before_move
        self._kept: dict[int, _Kept] = {}
        self._begun = False
        # What was met to be perturbed, by where it lies.
        self._at: dict[int, list[torch.Tensor]] = {}
        self._modes: dict[int, tuple[torch.nn.Module, bool]] = {}
        self._random = Randomness()
        self._handles: list[Any] = []
        self.moved = 0

    @property
    def met(self) -> list[torch.Tensor]:
        """Every tensor that was met."""
        return [kept.tensor for kept in self._kept.values()]

    def meet_given(self) -> None:
        """Meet the constructor's arguments, and from now on each module that runs."""
        for model in self._models:
            self._meet_module(model)
        for tensor in self._tensors:
            self._meet(tensor)
        hook = torch_module.register_module_forward_pre_hook(
            lambda module, _: self._meet_module(module)
        )
        self._handles.append(hook)
        self._begun = True

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def _seen(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in tensors_in([*args, *kwargs.values()]):
            # A parameter that is just being initialised is not in use yet.
            if (
                tensor.requires_grad
                and id(tensor) not in self._kept
                and tensor.is_leaf
                # In a custom function's forward, views look like leaves, of results too.
                and (tensor._base is None or tensor._base.is_leaf)
                and (torch.is_grad_enabled() or inside_function())
            ):
                self._meet(tensor)
        return self._run(func, args, kwargs)

    def restore(self) -> None:
        """Restore everything that was met, and the random numbers; remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        with torch.no_grad():
            # In reverse: of tensors that share memory, the first met knows the original numbers.
            for kept in reversed(self._kept.values()):
                kept.restore()
        for module, training in self._modes.values():
            module.training = training
        self._random.restore()

    def _meet_module(self, module: torch.nn.Module) -> None:
        if id(module) in self._modes:
            return
        for part in module.modules():
            self._modes.setdefault(id(part), (part, part.training))
        for tensor in [*module.parameters(), *module.buffers()]:
            self._meet(tensor)

    def _meet(self, tensor: torch.Tensor) -> None:
        # In a custom function's forward, a view of a parameter also looks like a leaf.
        if id(tensor) in self._kept or id(tensor._base) in self._kept:
            return
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction(), torch.no_grad():
            grad = tensor.grad if tensor.is_leaf else None
            self._kept[id(tensor)] = _Kept(
                tensor,
                tensor.data,
                tensor.data.clone(),
                tensor.requires_grad,
                grad,
                None if grad is None else grad.data.clone(),
            )
            numbers = tensor.is_floating_point() or (tensor.is_complex() and not tensor.is_conj())
            if self._moving is not None and tensor.requires_grad and numbers:
                if self._is_in_use(tensor):
                    return
                self._before_move(tensor)
                move(tensor.data, self._moving)
                self.moved += 1

    def _is_in_use(self, tensor: torch.Tensor) -> bool:
        """Whether the program has computed with a leaf's numbers: a backward makes leaves of them.

        So do copies that share the memory of another leaf.
        """
        beside = self._at.setdefault(address(tensor), [])
        within: Any = torch._C._current_autograd_node()
        shared = self._begun and any(overlap(tensor, other) for other in beside)
        beside.append(tensor)
        return within is not None or shared


def move(numbers: torch.Tensor, generator: torch.Generator) -> None:
    """Perturb numbers by up to a quarter of each, plus 1/32 to 1/16.

    So neither 0 nor 1 stays, and a large number keeps its sign. Complex ones are moved by parts.
    """
    if numbers.is_complex():
        numbers = torch.view_as_real(numbers)

    def uniform() -> torch.Tensor:
        return torch.rand(numbers.shape, generator=generator, dtype=torch.float64)

    sign = torch.where(uniform() < 0.5, -1.0, 1.0)
    change = sign * (1 + uniform()) / 32
    factor = 1 + (uniform() - 0.5) / 2
    moved = numbers.to("cpu", torch.float64) * factor + change
    # `.data` has its own version counter: autograd does not see a change in place.
    numbers.copy_(moved)


def _write(memory: torch.Tensor, numbers: torch.Tensor) -> None:
    """Write numbers back unless every bit is the same."""
    same = torch.equal(_bits(memory), _bits(numbers))
    if not same:
        memory.copy_(numbers)


def _bits(numbers: torch.Tensor) -> torch.Tensor:
    """Return numbers as bytes, of which NaN equals itself and 0 differs from -0."""
    return numbers.contiguous().reshape(-1).view(torch.uint8)
