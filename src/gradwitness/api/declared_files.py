"""The file in which a repository declares what is meant: ``[tool.gradwitness]`` in pyproject.toml.

It is Python, runs once, and holds whatever a program may declare: rules, surrogates,
approximations, hooks, allowed detaches.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING

from gradwitness._errors import GradwitnessError, InputError
from gradwitness.files.toml import read_toml

if TYPE_CHECKING:
    from types import TracebackType

_KEY = "declarations"
_OURS = f"{Path(__file__).parents[1]}{os.sep}"


def load_declarations(start: Path) -> None:
    """Run the declarations of the repository that a folder belongs to, unless they have run.

    Raises
    ------
    InputError
        If pyproject.toml cannot be read or names no file, or the file cannot be run; with the line.
    """
    project = _project(start.resolve())
    if project is None:
        return
    for name in _named(project):
        file = project.parent / name
        if not file.is_file():
            raise InputError(f"{project}: [tool.gradwitness] {_KEY} names {name!r}: no such file")
        _run(file)


def _project(folder: Path) -> Path | None:
    files = (parent / "pyproject.toml" for parent in (folder, *folder.parents))
    return next((file for file in files if file.is_file()), None)


def _named(project: Path) -> list[str]:
    table = read_toml(project).get("tool", {})
    own = table.get("gradwitness", {})
    unknown = [key for key in own if key != _KEY]
    if unknown:
        raise InputError(f"{project}: [tool.gradwitness] has no {unknown[0]!r}: it has {_KEY}")
    given = own.get(_KEY, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{project}: [tool.gradwitness] {_KEY} must be a file, or a list of files")
    return names


def _run(file: Path) -> None:
    known = sys.modules.get(file.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == file:
        return
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[file.stem]
        if isinstance(error, SyntaxError):
            raise InputError(f"{error.filename}:{error.lineno}: {error.msg}") from None
        what = (
            f"{error}"
            if isinstance(error, GradwitnessError)
            else f"{type(error).__name__}: {error}"
        )
        raise InputError(f"{line_of(error.__traceback__) or file}: {what}") from error
    finally:
        sys.path.remove(str(file.parent))


def line_of(trace: TracebackType | None) -> str:
    """Return the last line of a traceback that is neither ours nor the interpreter's."""
    lines = [(frame.f_code.co_filename, number) for frame, number in walk_tb(trace)]
    theirs = [f"{file}:{n}" for file, n in lines if not file.startswith((_OURS, "<"))]
    return theirs[-1] if theirs else ""
