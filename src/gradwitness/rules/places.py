"""Places of a program that a declaration names: ``train.py:deq.hook``."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness._cells import file_of, is_cell
from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Place:
    """Lines of a file: all of it, or those of a function.

    Attributes
    ----------
    text : str
        As it was named.
    file : str
    lines : range
    """

    text: str
    file: str
    lines: range

    def holds(self, line: str) -> bool:
        """Whether ``file:line`` lies in it."""
        path, _, number = line.rpartition(":")
        same = self.file in (path, os.path.realpath(path))
        return number.isdigit() and int(number) in self.lines and same


def place(named: Any, whose: str) -> Place:
    """Find a place.

    Parameters
    ----------
    named : str or callable
        ``FILE.py``, or ``FILE.py:function`` with the names of the functions and classes around it
        (``deq.hook``); or the function itself.
    whose : str
        What names it, for messages.

    Raises
    ------
    RuleError
        If there is no such file or function.
    """
    code = getattr(inspect.unwrap(named), "__code__", None) if callable(named) else None
    if code is not None:
        lines = [line for _, _, line in code.co_lines() if line]
        at = range(code.co_firstlineno, max(lines) + 1)
        written = file_of(code)
        whole = written if is_cell(written) else os.path.realpath(written)
        return Place(code.co_qualname, whole, at)
    if not isinstance(named, str) or not named.partition(":")[0].endswith(".py"):
        raise RuleError(f"{whose}: {named!r} is no place: give 'FILE.py:function' or 'FILE.py'")
    path, _, function = named.partition(":")
    folders = [Path(folder or ".") for folder in ("", *sys.path)]
    file = next((folder / path for folder in folders if (folder / path).is_file()), None)
    if file is None:
        raise RuleError(f"{whose}: no file {path} here or where Python looks for modules")
    text = file.read_text(encoding="utf-8")
    if not function:
        return Place(named, os.path.realpath(file), range(1, len(text.splitlines()) + 1))
    known = dict(_functions(ast.parse(text), ""))
    if function not in known:
        near = difflib.get_close_matches(function, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
        raise RuleError(f"{whose}: {path} has no function {function!r}; {hint}")
    return Place(named, os.path.realpath(file), known[function])


def _functions(tree: ast.AST, around: str) -> Iterator[tuple[str, range]]:
    for node in ast.iter_child_nodes(tree):
        inner = around
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorated = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            yield around + node.name, range(decorated, (node.end_lineno or node.lineno) + 1)
            inner = f"{around}{node.name}."
        yield from _functions(node, inner)
