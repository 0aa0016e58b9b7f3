"""A function and its inputs, run for gradcheck: under the recorder, and in float64."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.gradcheck import GradcheckError
from torch.overrides import TorchFunctionMode

from gradwitness._errors import GradientDisagreement, InputError, Unjudgeable
from gradwitness.capture.again.aside import aside, attempt, numbers_of
from gradwitness.capture.again.fuzzing import Refunction
from gradwitness.capture.again.keeping import Keeper
from gradwitness.capture.calls.source import inside_function, user_line
from gradwitness.judging.custom.slopes import Claim
from gradwitness.judging.fuzz.drawn import Drawn, lying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray


class GradcheckDisagreement(GradientDisagreement, GradcheckError):
    """A gradient that `gradcheck` does not confirm; code that catches torch's error catches it."""


class Subject:
    """A function at its inputs.

    Parameters
    ----------
    input_nrs : tensor or sequence
        Its arguments.
    seed : int
        Of the cotangents; the program's random numbers are not touched.

    Attributes
    ----------
    wanted : dict of str to Tensor
        The differentiable inputs, by name: ``inputs[0]``, ``inputs[1][2]``.
    outputs : int
        How many differentiable outputs the last run gave.
    repeats : float
        The largest difference between two runs of the same backward.
    dtypes : list of str
        Gradients that have another format than their input.
    leaks : dict of str to str
        Where the function took numbers out of torch, and how.
    """

    def __init__(self, fn: Callable[..., Any], inputs: Any, seed: int) -> None:
        self._fn = fn
        # Only the numbers of non-leaf inputs count: two of them may share a history.
        self._inputs = _replaced(_as_tuple(inputs), _alone)
        for name, tensor in _named(self._inputs):
            if tensor.layout is not torch.strided:
                raise InputError(
                    f"{name} is sparse ({tensor.layout}), which is not judged: make it dense, or "
                    "call torch.autograd.gradcheck"
                )
        self._seed = seed
        self.wanted = {
            name: tensor
            for name, tensor in _named(self._inputs)
            if tensor.requires_grad and (tensor.is_floating_point() or tensor.is_complex())
        }
        self.outputs = 0
        self.repeats = 0.0
        self.dtypes: list[str] = []
        self.leaks: dict[str, str] = {}

    @property
    def models(self) -> tuple[torch.nn.Module, ...]:
        """The module that the function is, or is a method of."""
        is_module = isinstance(self._fn, torch.nn.Module)
        owner = self._fn if is_module else getattr(self._fn, "__self__", None)
        return (owner,) if isinstance(owner, torch.nn.Module) else ()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Restore, at the end, everything that the function may change."""
        keeper = Keeper(self.models, [tensor for _, tensor in _named(self._inputs)])
        keeper.meet_given()
        try:
            with keeper:
                yield
        finally:
            keeper.restore()

    def step(self) -> None:
        """Run forward, and backward from every output with a random cotangent.

        Gradients are taken for the inputs and for every other leaf that the function reaches; no
        ``.grad`` is written.
        """
        with _Leaks(self.leaks):
            roots = _differentiable(self._fn(*self._inputs))
        self.outputs = len(roots)
        if roots:
            sources = [*self.wanted.values(), *self._further(roots)]
            torch.autograd.grad(roots, sources, self._cotangents(roots), allow_unused=True)

    def again(self) -> None:
        """Run the same backward twice; note by how much the gradients differ, and their formats."""
        roots = _differentiable(self._fn(*self._inputs))
        tensors = list(self.wanted.values())
        seeds = self._cotangents(roots)
        pair = [
            torch.autograd.grad(roots, tensors, seeds, retain_graph=True, allow_unused=True)
            for _ in range(2)
        ]
        for name, tensor, first, second in zip(self.wanted, tensors, *pair, strict=True):
            if first is None or second is None:
                self.repeats = max(self.repeats, 0.0 if first is second else np.inf)
                continue
            gap = (first - second).abs().nan_to_num(0.0).max().item() if first.numel() else 0.0
            self.repeats = max(self.repeats, gap)
            if first.dtype != tensor.dtype:
                self.dtypes.append(f"{name}: {tensor.dtype}, its gradient {first.dtype}")

    def undefined(self) -> str:
        """Return what goes wrong if output gradients are undefined, which means zero."""
        undefined: Any = torch._C._functions.UndefinedGrad
        tensors = list(self.wanted.values())
        count = len(_differentiable(self._fn(*self._inputs)))
        groups = [range(count), *([[n] for n in range(count)] if count > 1 else [])]
        for group in groups:
            outputs = _differentiable(self._fn(*self._inputs))
            roots = [undefined()(outputs[n]) for n in group]
            zeros = [torch.zeros_like(root) for root in roots]
            gradients: Any
            try:
                gradients = torch.autograd.grad(roots, tensors, zeros, allow_unused=True)
            except Exception as error:  # noqa: BLE001 (the user's own backward: anything)
                first = str(error).strip().partition("\n")[0]
                return f"backward fails ({type(error).__name__}: {first[:120]})"
            for name, gradient in zip(self.wanted, gradients, strict=True):
                if gradient is not None and not bool((gradient == 0).all()):
                    return f"the gradient of {name} is not zero"
        return ""

    def claims(self) -> dict[str, Claim]:
        """Return autograd's gradients of the function in float64, to be compared with its slopes.

        Raises
        ------
        Unjudgeable
            If it does not run in float64.
        """

        def differentiated() -> tuple[list[Any], list[Any]]:
            tensors = {name: self._wide(tensor) for name, tensor in self.wanted.items()}
            for tensor in tensors.values():
                tensor.requires_grad_()
            with torch.enable_grad():
                roots = _differentiable(self._fn(*self._placed(tensors)))
                seeds = self._cotangents(roots)
                sent = torch.autograd.grad(roots, [*tensors.values()], seeds, allow_unused=True)
            return seeds, list(sent)

        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            seeds, sent = attempt(differentiated)
        incoming = [numbers_of(seed) for seed in seeds]
        # Errors too small to show in float32, as from a constant of seven digits, count only for
        # float64 inputs.
        wide = all(tensor.dtype is torch.float64 for tensor in self.wanted.values())
        dtype = "float64" if wide else "float32"
        claims = {}
        for index, (name, tensor) in enumerate(self.wanted.items()):
            gradient = numbers_of(sent[index])
            at = numbers_of(self._wide(tensor))
            if at is None:
                raise Unjudgeable("complex numbers")
            claimed = np.zeros(at.shape) if gradient is None else gradient
            claims[name] = Claim(0, index, at, claimed, dtype, incoming, ())
        return claims

    def run(self, moved: Mapping[int, NDArray[np.float64]]) -> Sequence[Any]:
        """Run the function in float64, some inputs replaced; return its differentiable outputs.

        Raises
        ------
        Unjudgeable
            If that fails, or it draws random numbers.
        """
        tensors = {
            name: torch.from_numpy(np.array(moved[index])).to(tensor.device)
            if index in moved
            else self._wide(tensor)
            for index, (name, tensor) in enumerate(self.wanted.items())
        }
        for tensor in tensors.values():
            tensor.requires_grad_()

        def forward() -> list[Any]:
            # Only with gradients enabled are outputs marked as differentiable.
            with torch.enable_grad():
                return _differentiable(self._fn(*self._placed(tensors)))

        with aside():
            outputs = attempt(forward)
        return [numbers_of(output) for output in outputs]

    def elsewhere(self) -> Refunction:
        """Return the function as one of other inputs.

        Raises
        ------
        Unjudgeable
            If its inputs are complex.
        """
        tensors = dict(_named(self._inputs))
        numbers = {name: number for number, name in enumerate(tensors)}

        def apply(drawn: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
            inputs = _replaced(self._inputs, lambda _, name: drawn[numbers[name]])
            return [tensor for _, tensor in _named(self._fn(*inputs))]

        given = {
            numbers[name]: Drawn(
                (self._wide(t) if t.is_floating_point() or t.is_complex() else t).cpu().numpy(),
                lying(t.shape, t.stride()),
            )
            for name, t in tensors.items()
        }
        return Refunction(
            apply,
            given,
            {number: name for name, number in numbers.items()},
            tuple(numbers[name] for name in self.wanted),
            {numbers[name]: tensor.device for name, tensor in tensors.items()},
        )

    def _wide(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_complex() or tensor.layout is not torch.strided:
            raise Unjudgeable("slopes are not measured for complex or sparse inputs")
        return tensor.detach().to(torch.float64, copy=True)

    def _placed(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        """Return the inputs with some tensors replaced and all others in float64."""

        def placed(tensor: torch.Tensor, name: str) -> torch.Tensor:
            if name in tensors:
                return tensors[name]
            return tensor.detach().to(torch.float64) if tensor.is_floating_point() else tensor

        return _replaced(self._inputs, placed)

    def _cotangents(self, roots: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self._seed)
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            return [
                torch.randn(
                    root.shape,
                    generator=generator,
                    dtype=torch.complex128 if root.is_complex() else torch.float64,
                ).to(root.device, root.dtype)
                for root in roots
            ]

    def _further(self, roots: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the other leaves that the function reaches, not through its inputs."""
        edge = torch.autograd.graph.get_gradient_edge
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            seen = {edge(tensor).node for tensor in self.wanted.values()}
            waiting = [edge(root).node for root in roots]
        leaves = []
        for node in waiting:
            if node not in seen:
                seen.add(node)
                waiting.extend(target for target, _ in node.next_functions if target is not None)
                if node.name().endswith("AccumulateGrad"):
                    accumulator: Any = node
                    leaves.append(accumulator.variable)
        return leaves


class _Leaks(TorchFunctionMode):
    """Notes where numbers leave torch, or a tensor leaves its graph without a recorded call."""

    def __init__(self, leaks: dict[str, str]) -> None:
        super().__init__()
        self._leaks = leaks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        way = _WAYS_OUT.get(func)
        first = args[0] if args else None
        if (
            way
            and isinstance(first, torch.Tensor)
            and (first.requires_grad or (first.is_floating_point() and way != _DATA))
            # A custom function is judged as a whole, whatever it does inside.
            and not inside_function()
        ):
            self._leaks.setdefault(user_line(), way)
        return func(*args, **(kwargs or {}))


_DATA = ".data"
_WAYS_OUT: dict[Any, str] = {
    torch.Tensor.item: "item()",
    torch.Tensor.tolist: "tolist()",
    torch.Tensor.numpy: "numpy()",
    torch.Tensor.__array__: "numpy.array()",
    torch.Tensor.__float__: "float()",
    torch.Tensor.data.__get__: _DATA,  # type: ignore[attr-defined]
}


def _as_tuple(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


def _alone(tensor: torch.Tensor, name: str) -> torch.Tensor:
    del name
    return tensor if tensor.is_leaf else tensor.detach().requires_grad_()


def _replaced(x: Any, replace: Callable[[torch.Tensor, str], Any], name: str = "inputs") -> Any:
    """Return arguments with every tensor replaced by ``replace(tensor, name)``."""
    if isinstance(x, torch.Tensor):
        return replace(x, name)
    if type(x) in (tuple, list):
        return type(x)(_replaced(part, replace, f"{name}[{n}]") for n, part in enumerate(x))
    return x


def _named(argument: Any, name: str = "inputs") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(argument, torch.Tensor):
        yield name, argument
    elif isinstance(argument, (tuple, list)):
        for index, element in enumerate(argument):
            yield from _named(element, f"{name}[{index}]")


def _differentiable(outputs: Any) -> list[torch.Tensor]:
    return [
        tensor
        for _, tensor in _named(outputs)
        if tensor.requires_grad and (tensor.is_floating_point() or tensor.is_complex())
    ]
