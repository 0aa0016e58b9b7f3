"""``train.py:step``: a function of the user's, loaded from a file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def load_function(path: Path, name: str) -> Callable[[], Any]:
    """Import a Python file and return one of its functions, to be called without arguments.

    Raises
    ------
    InputError
        If there is no such file or function. Errors of the file itself propagate.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path} (expected FILE.py:FUNCTION)")
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
    loaded: Callable[[], Any] = function
    return loaded
