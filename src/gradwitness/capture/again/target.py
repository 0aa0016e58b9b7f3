"""``train.py:step``: a function of the user's, loaded from a file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import InputError
from gradwitness.files.named import require_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import CodeType


def load_function(path: Path, name: str) -> Callable[[], Any]:
    """Import a Python file and return one of its functions, to be called without arguments.

    Raises
    ------
    InputError
        If there is no such file or function. Errors of the file itself propagate.
    """
    require_file(path, "FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    # As if the user ran the file: its neighbours can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise InputError(
            f"{path} has no function {name!r}; it has: {', '.join(functions) or 'none'}"
        )
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise InputError(
            f"{path}:{name} yields or awaits, so that calling it runs nothing: name a function "
            "that runs the step to its end"
        )
    if wanted := _required(function):
        raise InputError(
            f"{path}:{name} takes arguments ({', '.join(wanted)}): name a function without any"
        )
    loaded: Callable[[], Any] = function
    return loaded


def _required(function: Callable[..., Any]) -> list[str]:
    """Return the arguments that a function cannot be called without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []  # compiled: calling it will tell
    optional = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def subjects(step: Callable[..., Any]) -> tuple[tuple[torch.nn.Module, ...], dict[str, Any]]:
    """Return what a function uses of its file and closure: modules, and leaf tensors by name.

    Of modules that are parts of another one, the whole, if nothing else is in it. Several are one
    module whose parts have the names of their variables.
    """
    used, whole = _used(step), {**getattr(step, "__globals__", {})}
    modules = {n: v for n, v in used.items() if isinstance(v, torch.nn.Module)}
    parameters = {id(p) for module in modules.values() for p in module.parameters()}
    for name, value in whole.items():
        # Its names for its parts are better: ``enc.weight`` of a dict of modules.
        inside = isinstance(value, torch.nn.Module) and {id(p) for p in value.parameters()}
        if inside and inside <= parameters:
            modules.setdefault(name, value)
    parts = {id(part) for m in modules.values() for part in m.modules() if part is not m}
    roots = {id(m): (name, m) for name, m in modules.items() if id(m) not in parts}
    leaves = {
        name: tensor
        for name, tensor in used.items()
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad and tensor.is_leaf
        if id(tensor) not in parameters
    }
    if len(roots) < 2:
        return tuple(module for _, module in roots.values()), leaves
    together = torch.nn.Module()
    together._modules.update(roots.values())
    return (together,), leaves


def _used(step: Callable[..., Any]) -> dict[str, Any]:
    """Return the variables that a function uses, and those that functions of its file use for it.

    Lists and dicts of tensors or modules are given by their elements.
    """
    found: dict[str, Any] = {}
    waiting: list[Any] = [step]
    seen: set[int] = set()
    for function in waiting:
        function = inspect.unwrap(getattr(function, "__func__", function))
        code = getattr(function, "__code__", None)
        if code is None or id(function) in seen:
            continue
        seen.add(id(function))
        cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
        named = {name: _content(cell) for name, cell in cells}
        named |= {n: function.__globals__[n] for n in _names(code) if n in function.__globals__}
        for name, value in named.items():
            if inspect.isfunction(value) and value.__globals__ is function.__globals__:
                waiting.append(value)
            elif isinstance(value, list | tuple):
                found |= {f"{name}[{k}]": element for k, element in enumerate(value)}
            elif isinstance(value, dict):
                found |= {f"{name}[{key!r}]": element for key, element in value.items()}
            else:
                found[name] = value
    return found


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # Not assigned yet.
        return None


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names that some code, and code within it, refers to."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)
