"""A notebook's cells, named as the notebook numbers them: ``cell [3]``.

The file name that Python knows of a cell is a hash of its text.
"""

from __future__ import annotations

import linecache
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

_CELL = re.compile(r"cell \[(\d+)\]")


def file_of(code: CodeType) -> str:
    """Return the file of a piece of code, or its cell."""
    name = code.co_filename
    running = shell()
    named = None if running is None else running.compile.format_code_name(name)
    return f"cell {named[1].removeprefix('In')}" if named else name


def line_of(file: str, number: int) -> str:
    """Return the text of a line of a file, or of a cell that was run in this process."""
    cell, running = _CELL.fullmatch(file), shell()
    if cell is None:
        return linecache.getline(file, number).strip()
    written = [] if running is None else running.user_ns["In"]
    text = written[int(cell[1])] if int(cell[1]) < len(written) else ""
    return "".join(text.splitlines()[number - 1 : number]).strip()


def is_cell(file: str) -> bool:
    """Whether a file is named as a cell."""
    return _CELL.fullmatch(file) is not None


def shell() -> Any:
    """Return IPython's shell if the program runs in one."""
    module = sys.modules.get("IPython.core.interactiveshell")
    kind = module and module.InteractiveShell
    return kind.instance() if kind and kind.initialized() else None
