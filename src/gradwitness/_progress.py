"""How far a long computation has come: a bar on a terminal, or in a notebook, after two seconds.

Of a watched block it shows the backward passes alone: there most of the judging is, and seldom does
the program itself write. Nothing is drawn but on a terminal or in a notebook.
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
def progress(
    what: str,
    total: int | Callable[[], int],
    unit: str = "steps",
    so_far: Callable[[], str] = lambda: "",
) -> Iterator[Callable[[], None]]:
    """Yield a function to be called after each of so many steps.

    Parameters
    ----------
    what : str
        What takes so long: ``judging``.
    total : int or callable
        How many steps there are, or what counts them; it is called only if a bar is shown.
    unit : str, optional
        What the steps are.
    so_far : callable, optional
        Says what has come of it until now.
    """
    global _is_shown
    kernel = getattr(shell(), "kernel", None)
    if _is_shown or not total or not (kernel or (sys.stderr and sys.stderr.isatty())):
        yield lambda: None
        return
    bar: _InNotebook | _OnTerminal | None = None
    _is_shown = True
    done, begun = 0, time.perf_counter()
    due, count = begun + _PATIENCE, 0

    def advance() -> None:
        nonlocal bar, count, done, due
        done += 1
        now = time.perf_counter()
        if now > due:
            if bar is None:
                count = total() if callable(total) else total
                bar = (_InNotebook if kernel else _OnTerminal)(what, count, unit)
            left = f"{(now - begun) * max(count - done, 0) / done:.0f} s left"
            bar.show(done, ", ".join(filter(None, (so_far(), left))))
            due = time.perf_counter() + _BETWEEN

    try:
        yield advance
    finally:
        _is_shown = False
        if bar is not None:
            bar.close()


def tracked(what: str, items: Sequence[T]) -> Iterator[T]:
    """Yield items, and show how many of them are done."""
    with progress(what, len(items)) as advance:
        for item in items:
            yield item
            advance()


class _OnTerminal:
    def __init__(self, what: str, total: int, unit: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
        )

        self._bar = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.description}}", markup=False),
            console=Console(stderr=True),
            transient=True,
            # The streams and the threads of the program are left alone.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.add_task("", total=total)
        self._bar.start()

    def show(self, done: int, said: str) -> None:
        self._bar.update(self._bar.task_ids[0], completed=done, description=said, refresh=True)

    def close(self) -> None:
        self._bar.stop()


class _InNotebook:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._output: Any = None

    def show(self, done: int, said: str) -> None:
        self._write(
            f'<label>{self._what} <progress value="{done}" max="{self._total}"></progress> '
            f"{done} of {self._total} {self._unit}, {said}</label>"
        )

    def close(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        from IPython.display import HTML, display

        if self._output is None:
            self._output = display(HTML(text), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._output.update(HTML(text))  # type: ignore[no-untyped-call]
