"""How far a long computation has come: a bar on a terminal, or in a notebook, after two seconds.

Nothing is drawn while the user's program runs, and nothing but on a terminal or in a notebook.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gradwitness._cells import shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
_PATIENCE = 2.0  # seconds
_BETWEEN = 0.1


# Whether a longer computation shows how far it is, of which others are steps.
_is_shown = False


def hush() -> None:
    """Show no bar in this process: the one that started it does."""
    global _is_shown
    _is_shown = True


@contextmanager
def progress(what: str, total: int, unit: str = "steps") -> Iterator[Callable[[], None]]:
    """Yield a function to be called after each of so many steps."""
    global _is_shown
    kernel = getattr(shell(), "kernel", None)
    if _is_shown or not total or not (kernel or (sys.stderr and sys.stderr.isatty())):
        yield lambda: None
        return
    bar = (_InNotebook if kernel else _OnTerminal)(what, total, unit)
    _is_shown = True
    done, due = 0, time.perf_counter() + _PATIENCE

    def advance() -> None:
        nonlocal done, due
        done += 1
        if time.perf_counter() > due:
            bar.show(done)
            due = time.perf_counter() + _BETWEEN

    try:
        yield advance
    finally:
        _is_shown = False
        bar.close()


def tracked(what: str, items: Sequence[T]) -> Iterator[T]:
    """Yield items, and show how many of them are done."""
    with progress(what, len(items)) as advance:
        for item in items:
            yield item
            advance()


class _OnTerminal:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._bar: Any = None

    def show(self, done: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        if self._bar is None:
            self._bar = Progress(
                TextColumn(self._what, markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{self._unit},", markup=False),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
                transient=True,
                # The streams and the threads of the program are left alone.
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task("", total=self._total)
            self._bar.start()
        self._bar.update(0, completed=done, refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class _InNotebook:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._output: Any = None

    def show(self, done: int) -> None:
        self._write(
            f'<label>{self._what} <progress value="{done}" max="{self._total}"></progress> '
            f"{done} of {self._total} {self._unit}</label>"
        )

    def close(self) -> None:
        if self._output is not None:
            self._write("")

    def _write(self, text: str) -> None:
        from IPython.display import HTML, display

        if self._output is None:
            self._output = display(HTML(text), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._output.update(HTML(text))  # type: ignore[no-untyped-call]
