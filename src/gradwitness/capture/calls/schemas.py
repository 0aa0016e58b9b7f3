"""What is known of an operation by its schema alone: looked up once for all of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gradwitness.capture.calls.convolutions import CONVOLUTIONS
from gradwitness.tape import COLLECTIVES

_BATCH_NORM = torch.ops.aten.native_batch_norm.default
_COPY = torch.ops.aten.copy_.default
_RESIZE = "inductor.resize_storage_bytes_.default"
_PICKS = {
    torch.ops.aten.embedding.default,
    torch.ops.aten.gather.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
    torch.ops.aten.take.default,
}

# Into which argument an operation writes what it has drawn.
_DRAWN = {
    torch.ops.aten.rrelu_with_noise.default: "noise",
    torch.ops.aten.rrelu_with_noise_.default: "noise",
}

_COUNTS = torch._C.DispatchKey.ADInplaceOrView
_LAZY = (
    torch._C.DispatchKey.Conjugate,
    torch._C.DispatchKey.Negative,
    torch._C.DispatchKey.ZeroTensor,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a schema.

    ``length`` is that of a list for which one number may stand.
    """

    name: str
    default: Any
    writes: bool
    is_tensor: bool
    length: int | None

    def meant(self, argument: Any) -> Any:
        """Return what an argument stands for."""
        if self.length is not None and isinstance(argument, (list, tuple)) and len(argument) == 1:
            # One number stands for all axes; the schema says how many.
            return [*argument] * self.length
        if self.is_tensor and isinstance(argument, (bool, int, float, complex)):
            # A Python number where the schema has a tensor (x - 0.3) still has an edge.
            return torch.tensor(argument, dtype=_IN_DOUBLE.get(type(argument)))
        return argument


_IN_DOUBLE = {float: torch.float64, complex: torch.complex128}


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An overload of an operation.

    Attributes
    ----------
    func : OpOverload
        Held, so that no other is taken for it.
    keys : tuple of DispatchKey
        Those that torch would not exclude while it runs.
    writes : tuple of str
        The arguments that its schema says it writes to.
    is_collective : bool
        Whether it talks to other processes.
    may_write : bool
        Whether it may write to an argument.
    is_in_place : bool
        Whether it writes to the elements of its first argument, and neither resizes nor moves it.
    is_peculiar : bool
        Whether more is to be known of a call than its schema says.
    picks : bool
        Whether it reads no number that its result has not, and perhaps few of its operand's.
    is_factory : bool
        Whether it reads no number at all.
    drawn : str
        The argument in which it leaves what it has drawn, or empty.
    """

    func: Any
    name: str
    parameters: tuple[Parameter, ...]
    keys: tuple[torch._C.DispatchKey, ...]
    writes: tuple[str, ...]
    is_collective: bool
    may_write: bool
    is_in_place: bool
    is_peculiar: bool
    picks: bool
    is_factory: bool
    drawn: str

    def arguments(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults filled in."""
        given = {p.name: argument for p, argument in zip(self.parameters, args, strict=False)}
        defaults = {p.name: p.default for p in self.parameters[len(args) :]}
        meant = {p.name: p.meant for p in self.parameters}
        return {name: meant[name](one) for name, one in (given | defaults | kwargs).items()}

    def with_tensors(self, args: Any) -> list[Any]:
        """Return positional arguments with tensors where numbers stand for them."""
        pairs = zip(self.parameters, args, strict=False)
        return [p.meant(argument) if p.is_tensor else argument for p, argument in pairs]


def operation(func: Any) -> Operation:
    """Return what is known of an operation."""
    known = _KNOWN.get(id(func))
    if known is None:
        known = _KNOWN[id(func)] = _read(func)
    return known


_KNOWN: dict[int, Operation] = {}


def is_composite(func: Any) -> bool:
    """Whether torch computes an operation by others, of which each has its own derivative."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    has_kernel: Any = torch._C._dispatch_has_kernel_for_dispatch_key
    return key in func.py_kernels or has_kernel(func.name(), key)


def _read(func: Any) -> Operation:
    name = str(func)
    is_collective = name.startswith(COLLECTIVES)
    parameters = tuple(map(_parameter, func._schema.arguments))
    is_undeclared = is_collective or name == _RESIZE or func is _BATCH_NORM
    return Operation(
        func,
        name,
        parameters,
        _keys(func),
        tuple(parameter.name for parameter in parameters if parameter.writes),
        is_collective,
        is_undeclared or func._schema.is_mutable,
        _is_in_place(func, name, parameters),
        is_undeclared or func in CONVOLUTIONS or func in _DRAWN,
        func in _PICKS or _is_view(func),
        _is_factory(func, name),
        _DRAWN.get(func, ""),
    )


def _is_factory(func: Any, name: str) -> bool:
    reads = any("Tensor" in str(argument.type) for argument in func._schema.arguments)
    return not reads or name.split(".")[1].endswith("_like")


def _is_view(func: Any) -> bool:
    """Whether a result is an argument's memory, and nothing is written there."""
    aliases = [argument.alias_info for argument in func._schema.arguments]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _is_in_place(func: Any, name: str, parameters: tuple[Parameter, ...]) -> bool:
    # Results by ``out=`` come last, and may be resized.
    written = [parameter.writes for parameter in parameters]
    pointwise = func is _COPY or torch.Tag.pointwise in func.tags
    return pointwise and name.startswith("aten.") and written[0] and not any(written[1:])


def _parameter(argument: Any) -> Parameter:
    alias = argument.alias_info
    return Parameter(
        argument.name,
        argument.default_value if argument.has_default_value() else None,
        alias is not None and alias.is_write,
        isinstance(argument.type, torch.TensorType),
        argument.N,
    )


def _keys(func: Any) -> tuple[torch._C.DispatchKey, ...]:
    if not func._schema.is_mutable:
        return _LAZY
    # A kernel that counts changes has run before the mode, and excludes the key for what follows.
    counted = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "ADInplaceOrView")
    return _LAZY if counted else (*_LAZY, _COUNTS)


def undeclared_writes(operation: Operation, arguments: dict[str, Any]) -> list[torch.Tensor]:
    """Return tensors that a call writes or resizes although its schema does not say so."""
    if operation.name == _RESIZE:
        return [arguments["variable"]]
    if operation.func is not _BATCH_NORM:
        return []
    # Running statistics.
    if not arguments["training"]:
        return []
    statistics = (arguments["running_mean"], arguments["running_var"])
    return [argument for argument in statistics if isinstance(argument, torch.Tensor)]
