"""The bar of a long computation: on a terminal after two seconds, and nowhere else."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import Any

import pytest
import torch

import gradwitness
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


def test_the_bar_tells_the_verdict_so_far_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN", 0.0)
    # Four steps, and the clock gives each 3 seconds: after one, 9 are left.
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with progress("judging", lambda: 4, "nodes", lambda: "AGREES so far") as advance:
        for now[0] in (3.0, 6.0):
            advance()
    assert "1/4 nodes, AGREES so far, 9 s left" in written(terminal)
    assert "2/4 nodes, AGREES so far, 6 s left" in written(terminal)


def test_a_slow_backward_pass_shows_how_far_its_judging_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN", 0.0)

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(_: Any, *arrived: torch.Tensor) -> torch.Tensor:
            return arrived[0] * 3

    x = torch.ones(3, requires_grad=True)
    with gradwitness.watch() as witness:
        loss = Doubled.apply(x).tanh().sum()  # type: ignore[no-untyped-call]
        assert not terminal.getvalue()
        torch.autograd.backward(loss)
        shown = written(terminal)
        # Sum, tanh and the function; its leaf is the fourth node.
        assert "1/4 nodes, AGREES so far" in shown
        assert "2/4 nodes, AGREES so far" in shown
        assert re.search("4/4 nodes, (DISAGREES|INCONCLUSIVE) so far", shown)
        assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))
    assert witness.verdict is gradwitness.Verdict.DISAGREES


def test_a_pass_within_a_pass_leaves_the_bar_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(_progress, "_BETWEEN", 0.0)
    x, y = (torch.ones(3, requires_grad=True) for _ in range(2))

    def within(_: torch.Tensor) -> None:
        with torch.enable_grad():
            torch.autograd.backward(y.exp().sum())

    with gradwitness.watch() as witness:
        middle = x.tanh()
        middle.register_hook(within)  # type: ignore[no-untyped-call]
        torch.autograd.backward(middle.sum())
        shown = written(terminal)
        assert [f"{n}/3 nodes" in shown for n in range(1, 5)] == [True, True, True, False]
        assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))
    assert witness.verdict is gradwitness.Verdict.AGREES


def test_a_pass_that_raises_takes_its_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    x = torch.ones(3, requires_grad=True)

    def stops(_: torch.Tensor) -> None:
        raise ValueError("stopped")

    x.register_hook(stops)  # type: ignore[no-untyped-call]
    with gradwitness.watch():
        with pytest.raises(ValueError, match="stopped"):
            torch.autograd.backward(x.tanh().sum())
        assert "judging" in written(terminal)
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
