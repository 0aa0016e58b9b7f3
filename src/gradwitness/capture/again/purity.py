"""Whether a custom function is known to be pure: whether running it again can be noticed.

Two things are read: the calls that were recorded of its forward, and the code of its forward with
all that it calls. Code counts as pure if every name that it uses from outside is a constant, a
tensor, a module or function of a mathematical library, or code that is pure itself, and if it
writes to its own variables only. Its arguments are copies when it runs again.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import re
from enum import Enum
from functools import lru_cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.capture.calls.source import is_skipped
from gradwitness.tape import COLLECTIVES, OUTSIDE, references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gradwitness.capture.calls.drafts import CallDraft

TALKS = "it talks to other processes"
_GIVEN = "an argument"

# Libraries that calculate, without the parts of them that do more.
_LIBRARY = re.compile(
    r"(numpy|scipy|math|cmath|_?operator|_?functools|itertools|typing|collections|einops|torch"
    r"(?!\.(distributed|_C\._distributed|multiprocessing|utils|serialization|hub|random)\b))\b"
)
_ACTIONS = re.compile(r"set_|seterr|setbufsize|use_|save|load|manual_seed|seed|tofile")
# Attributes of whatever it may be by which more than numbers can change.
_REACHING_OUT = ("__dict__", "__setattr__", "tofile", "dump", "share_memory_")
_BUILTINS = re.compile(
    r"(print|input|open|exec|eval|compile|setattr|delattr|getattr|globals|locals|vars|__import__|"
    r"breakpoint|exit|quit|next)$"
)
_OF_CONTEXT = ("save_for_backward", "saved_tensors", "set_materialize_grads")
# Instructions between a name and its attributes.
_SILENT = ("EXTENDED_ARG", "PUSH_NULL", "NOP")
_CACHED: Any = type(lru_cache(lambda: None))
_CONSTANTS = (
    *(bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range),
    *(torch.dtype, torch.device, torch.memory_format, torch.layout, torch.Tensor),
    *(np.dtype, np.generic),
)


def effect(
    calls: Sequence[CallDraft], arguments: set[int], storage: Callable[[int], int | None]
) -> str:
    """Return what the recorded calls of a forward did besides calculating; empty for nothing.

    Parameters
    ----------
    calls : sequence of CallDraft
    arguments : set of int
        The tensors that the function was given, by their number.
    storage : callable
        Gives the number of a value's memory.
    """
    own = {storage(value) for value in arguments}
    for call in calls:
        if call.op.startswith(COLLECTIVES):
            return f"{TALKS} ({call.op})"
        if not call.op.startswith(("aten.", "prims.", OUTSIDE)) and not _defined(call.op):
            return f"it calls the operator {call.op}"
        if torch.Tag.nondeterministic_seeded in _tags(call.op):
            return f"it draws random numbers ({call.op})"
        operands = {name: {*references(a)} for name, a in call.arguments.items()}
        known = {storage(n) for numbers in operands.values() for n in numbers}
        written = {name for name in call.writes if name in operands}
        if call.op.startswith("aten.native_batch_norm.") and call.arguments["training"]:
            written |= {"running_mean", "running_var"}
        if not {storage(n) for name in written for n in operands[name]} <= own:
            return f"it writes to a tensor that it was not given ({call.op})"
        # What is new was made here; a view shares the memory of an operand.
        own |= {storage(n) for n in call.outputs if n is not None} - known
    return ""


def impurity(function: Any, arguments: Iterable[Any]) -> str:
    """Return why a function's code is not known to be pure; empty if it is."""
    if isinstance(function, torch._ops.OpOverload):
        name: str = function._schema.name
        if function.namespace == "aten" and not function._schema.is_mutable:
            draws = torch.Tag.nondeterministic_seeded in function.tags
            return "it draws random numbers" if draws else ""
        definition = _defined(name.replace("::", "."))
        if definition is None or function._schema.is_mutable:
            return "it is an operator whose code cannot be read"
        return next(_Reader().uses(definition, name), "")
    return next(_Reader().applies(function, [None, *arguments]), "")


def impurity_of_backward(function: Any) -> str:
    """Return why the code of a function's backward is not known to be pure; empty if it is."""
    if not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
        return "it is an operator"
    reader = _Reader()
    why = next(reader.code(function.backward, [None], context=True), "")
    # No record shows whether it writes there.
    return why or ("its backward uses a tensor from outside" if reader.looks_outside else "")


def untried(function: Any, arguments: Iterable[Any]) -> str:
    """Return why running a function on any other inputs is not known to do nothing but calculate.

    It must be pure, forward and backward, and end whatever its numbers are.
    """
    why = impurity(function, arguments) or impurity_of_backward(function)
    if why:
        return why
    reader = _Reader()
    for _ in (*reader.applies(function, [None]), *reader.code(function.backward, [None])):
        pass
    return "it has a loop that need not end, or reads memory by strides" * reader.is_unbounded


def _defined(op: str) -> Any:
    """Return the Python function that defines an operator of ``torch.library``, if one does."""
    namespace, name, *_ = op.split(".")
    definition: Any = torch._library.custom_ops.OPDEFS.get(f"{namespace}::{name}")
    return None if definition is None else definition._init_fn


def _tags(op: str) -> Sequence[torch.Tag]:
    namespace, name, *overload = op.split(".")
    if not overload:
        return ()
    packet = getattr(getattr(torch.ops, namespace), name, None)
    tags: Sequence[torch.Tag] = getattr(getattr(packet, overload[0], None), "tags", ())
    return tags


class _Reader:
    """Reads code, each function once, and yields what it does besides calculating."""

    def __init__(self) -> None:
        self._read: set[tuple[Any, ...]] = set()
        # Whether there is a tensor from outside, whose memory NumPy might write to.
        self.looks_outside = False
        # Whether something may run on without end, or beyond the end of an array.
        self.is_unbounded = False

    def applies(self, function: Any, arguments: Sequence[Any]) -> Iterator[str]:
        """Read the forward of an ``autograd.Function``, given the context and its arguments."""
        separate = function.setup_context is not torch.autograd.Function.setup_context
        given = arguments[1:] if separate else arguments
        for argument in arguments:
            yield from self.uses(argument, _GIVEN)
        yield from self.code(function.forward, given, context=not separate)
        if separate:
            yield from self.code(function.setup_context, [], context=True)

    def uses(self, value: Any, name: str) -> Iterator[str]:
        """Read what a name stands for."""
        self.is_unbounded |= "stride_tricks" in str(getattr(value, "__module__", ""))
        if isinstance(value, tuple | frozenset):
            for element in value:
                yield from self.uses(element, name)
        elif isinstance(value, torch.nn.Module):
            yield from self._module(value, name)
        elif _of_library(value):
            if _ACTIONS.match(getattr(value, "__name__", "")):
                yield f"it uses {name}"
        elif not (isinstance(value, _CONSTANTS) or _enumerates(value)):
            yield from self._calls(value, name)
        self.looks_outside |= isinstance(value, torch.Tensor | torch.nn.Module) and name != _GIVEN

    def _calls(self, value: Any, name: str) -> Iterator[str]:
        if isinstance(value, partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                yield from self.uses(part, name)
        elif isinstance(value, _CACHED):
            # What it remembers of pure code is what that would compute again.
            yield from self.uses(value.__wrapped__, name)
        elif isinstance(value, MethodType):
            yield from self.uses(value.__self__, name)
            yield from self.code(value.__func__, [value.__self__])
        elif isinstance(value, FunctionType):
            yield from self.code(value, [])
        elif isinstance(value, type) and issubclass(value, torch.autograd.Function):
            yield from self.applies(value, [])
        elif not (isinstance(value, type) and issubclass(value, BaseException)):
            yield f"it uses {name}, of the type {type(value).__name__}"

    def _module(self, module: torch.nn.Module, name: str) -> Iterator[str]:
        for part in module.modules():
            if part._forward_hooks or part._forward_pre_hooks:
                yield f"{name} has hooks"
            elif not type(part).__module__.startswith("torch.nn.modules."):
                yield from self.code(type(part).forward, [part])

    def code(self, function: Any, given: Sequence[Any], *, context: bool = False) -> Iterator[str]:
        """Read a function's code, given the first of its arguments."""
        bound = isinstance(function, MethodType)
        if bound:
            function, given = function.__func__, [function.__self__, *given]
        function = inspect.unwrap(function) if _is_foreign(function) else function
        if not isinstance(function, FunctionType):
            yield f"the code of {getattr(function, '__name__', function)} cannot be read"
        elif is_skipped(function.__code__.co_filename):
            if not _calculates(function.__module__):
                yield f"it uses {function.__module__}.{function.__name__}"
        else:
            key = (function, *(id(one) for one in given if _has_parts(one)))
            if key in self._read:
                return
            self._read.add(key)
            names = dict(zip(function.__code__.co_varnames, given, strict=False))
            writes_to = function.__code__.co_varnames[bound : bound + 1] if context else ()
            for default in (
                *(function.__defaults__ or ()),
                *(function.__kwdefaults__ or {}).values(),
            ):
                yield from self.uses(default, f"a default of {function.__name__}")
            yield from self._instructions(function, function.__code__, names, writes_to)

    def _instructions(  # noqa: C901 (one branch for each way to write)
        self, function: FunctionType, code: CodeType, given: Mapping[str, Any], context: Any
    ) -> Iterator[str]:
        outer = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        where = f"{function.__name__} "
        chain = _Chain(function, given, outer)
        last: tuple[str, ...] = ()
        steps = [*dis.get_instructions(code)]
        imports = any(step.opname == "IMPORT_NAME" for step in steps)
        kinds = {step.offset: step.opname for step in steps}
        # What jumps back to where no iterator is asked for more is `while`.
        self.is_unbounded |= any(
            "JUMP_BACKWARD" in step.opname and kinds[step.argval] != "FOR_ITER" for step in steps
        )
        for instruction in steps:
            op, argument = instruction.opname, instruction.argval
            if op in _SILENT or chain.follows(op, argument):
                continue
            yield from chain.ended(self.uses)
            if op in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                yield f"{where}writes to the global {argument}"
            elif op == "STORE_DEREF" and argument in outer:
                yield f"{where}writes to {argument}, which belongs to another function"
            elif op in ("STORE_ATTR", "DELETE_ATTR") and last[-1:] != tuple(context):
                yield f"{where}sets the attribute {argument}"
            elif op == "IMPORT_NAME" and not _calculates(argument):
                yield f"{where}imports {argument}"
            elif isinstance(argument, CodeType):
                yield from self._instructions(function, argument, {}, ())
            elif op == "STORE_SUBSCR" and self.looks_outside and "numpy" in code.co_names:
                yield f"{where}writes to an array, which may be the memory of a tensor from outside"
            elif op == "STORE_FAST" and any(_has_parts(given.get(name)) for name in last):
                yield f"{where}gives {last[-1]} another name"
            elif op in ("LOAD_ATTR", "LOAD_METHOD") and _reaches_out(argument, imports=imports):
                yield f"{where}uses {argument}"
            # Since Python 3.13, one instruction may load two variables.
            last = argument if "_LOAD_FAST" in op else (str(argument),)
            chain.starts(op, last[-1])
        yield from chain.ended(self.uses)


class _Chain:
    """A name from outside with the attributes taken of it: ``torch.nn.functional.relu``."""

    def __init__(
        self, function: FunctionType, given: Mapping[str, Any], outer: Mapping[str, Any]
    ) -> None:
        self._function = function
        self._given = given
        self._outer = outer
        self._name = ""
        self._value: Any = None

    def starts(self, op: str, name: str) -> None:
        """Begin with a name, if it is one from outside."""
        scope = self._function.__globals__
        if op in ("LOAD_GLOBAL", "LOAD_NAME"):
            self._name, self._value = name, scope.get(name, getattr(builtins, name, _Unknown))
        elif "DEREF" in op and op.startswith("LOAD") and name in self._outer:
            cell = self._outer[name]
            self._name, self._value = name, cell.cell_contents
        elif op.startswith("LOAD_FAST") and _has_parts(self._given.get(name)):
            self._name, self._value = name, self._given[name]

    def follows(self, op: str, name: str) -> bool:
        """Follow an attribute of what is a module, if the next instruction takes one."""
        if not self._name or op not in ("LOAD_ATTR", "LOAD_METHOD"):
            return False
        if isinstance(self._value, (ModuleType, type, torch._ops._OpNamespace, torch._ops._Ops)):
            self._value = getattr(self._value, name, _Unknown)
        elif isinstance(self._value, torch.nn.Module):
            parts = (self._value.__dict__, self._value._modules, self._value._parameters)
            found = [part[name] for part in (*parts, self._value._buffers) if name in part]
            static = inspect.getattr_static(self._value, name, _Unknown)
            method = MethodType(static, self._value) if isinstance(static, FunctionType) else static
            self._value = found[0] if found else method
        else:
            return False
        self._name += f".{name}"
        return True

    def ended(self, uses: Callable[[Any, str], Iterator[str]]) -> Iterator[str]:
        """Read what the chain stands for, and forget it."""
        name, value, self._name = self._name, self._value, ""
        if name:
            yield from uses(value, name)


class _Unknown:
    """What a name stands for that cannot be looked up."""


def _reaches_out(attribute: str, *, imports: bool) -> bool:
    """Whether an attribute of something unknown may do more than calculate."""
    acts = imports and _ACTIONS.match(attribute) and attribute not in _OF_CONTEXT
    return attribute in _REACHING_OUT or bool(acts)


def _has_parts(value: Any) -> bool:
    """Whether the attributes of an argument are known: those of a module, or of a class."""
    return isinstance(value, torch.nn.Module | type)


def _enumerates(value: Any) -> bool:
    """Whether something is an enumeration without methods, or a member of it."""
    kind = value if isinstance(value, type) else type(value)
    names = [n for n in vars(kind) if not n.startswith("_")] if issubclass(kind, Enum) else []
    return bool(names) and not any(callable(getattr(kind, name)) for name in names)


def _is_foreign(function: Any) -> bool:
    """Whether a function is a wrapper of torch's around the program's own."""
    code = getattr(function, "__code__", None)
    return code is not None and is_skipped(code.co_filename)


def _of_library(value: Any) -> bool:
    """Whether something is a mathematical library's, and does nothing but calculate."""
    name = getattr(value, "__name__", "")
    if vars(builtins).get(name) is value:
        return not _BUILTINS.match(name)
    if isinstance(value, torch._ops.OpOverloadPacket | torch._ops.OpOverload):
        return str(value).startswith(("aten.", "prims."))
    if isinstance(value, np.ufunc):
        return True
    if isinstance(value, BuiltinFunctionType):
        if value.__self__ is None:
            return _calculates(str(value.__module__))
        value = value.__self__
    if isinstance(value, ModuleType):
        return _calculates(value.__name__)
    # NumPy's functions are objects of types of its own.
    kind = value if isinstance(value, FunctionType | type) else type(value)
    return (kind is value or kind.__module__ == "numpy") and _calculates(kind.__module__)


def _calculates(module: str) -> bool:
    return _LIBRARY.match(module) is not None
