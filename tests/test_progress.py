"""The bar of a long computation: on a terminal after two seconds, and nowhere else."""

from __future__ import annotations

import io
import re
import sys

import pytest

from gradwitness import _progress
from gradwitness._progress import progress, tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replace standard error; not in a fixture, after which pytest replaces it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def written(stream: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_long_computation_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN", 0.0)
    stdout = sys.stdout
    with progress("judging", 3) as advance:
        advance()
        assert sys.stdout is stdout
        advance()
    assert "judging" in written(terminal)
    assert "1/3" in written(terminal)
    assert "2/3 steps" in written(terminal)
    # The bar is taken away: the cursor is shown again, the line erased.
    assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))


def test_a_short_computation_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    assert list(tracked("judging", "abc")) == ["a", "b", "c"]
    assert terminal.getvalue() == ""


def test_nothing_is_written_where_nobody_reads_along(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    list(tracked("judging", "abc"))
    # Without a console a program has no standard error.
    monkeypatch.setattr(sys, "stderr", None)
    list(tracked("judging", "abc"))
    assert capfd.readouterr() == ("", "")


def test_an_error_passes_and_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt), progress("judging", 2) as advance:  # noqa: PT012
        advance()
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))


def test_what_is_a_step_of_something_longer_shows_no_bar_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN", 0.0)
    with progress("running", 2, "seeds") as advance:
        list(tracked("judging", "abc"))
        advance()
    assert "judging" not in written(terminal)
    assert "1/2 seeds" in written(terminal)
    list(tracked("afterwards", "abc"))
    assert "afterwards" in written(terminal)
    monkeypatch.setattr(_progress, "_is_shown", False)
    _progress.hush()
    list(tracked("hushed", "abc"))
    assert "hushed" not in written(terminal)
