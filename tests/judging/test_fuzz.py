"""Accused functions are tried at other shapes, strides and numbers: when only they are wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from gradwitness.judging.fuzz import guilty
from gradwitness.report.faults import faults_of
from gradwitness.report.record import report_record
from judging import fuzzed_functions as fuzzed

if TYPE_CHECKING:
    from collections.abc import Callable


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def leaf(*shape: int) -> torch.Tensor:
    return drawn(*shape, seed=sum(shape)).requires_grad_()


def found(
    function: Any, *inputs: torch.Tensor, arriving: Callable[..., torch.Tensor] = drawn, **how: Any
) -> gw.Witness:
    """Return what was found of a function, run back from what ``arriving`` makes of its shape."""
    with gw.watch(**how) as witness:
        y = function.apply(*inputs)
        y.backward(arriving(*y.shape))
    return witness


def said(witness: gw.Witness) -> dict[str, str]:
    """Return what fuzzing tells of each wrong gradient."""
    return {
        finding.title.partition("gradient of ")[2]: finding.fuzz for finding in witness.report.wrong
    }


def transposed(*shape: int) -> torch.Tensor:
    return drawn(*reversed(shape)).permute(*reversed(range(len(shape))))


def of_a_sum(*shape: int) -> torch.Tensor:
    return torch.ones(()).expand(shape)


def with_zero(*shape: int) -> torch.Tensor:
    x = drawn(*shape)
    x[0, 0] = 0
    return x.requires_grad_()


def with_ties(*shape: int) -> torch.Tensor:
    x = drawn(*shape)
    x[0, 0] = x[1, 1]
    return x.requires_grad_()


# Function, inputs, how the cotangent lies, the wrong input, and when only its gradient is wrong.
BLOCKS = "not a multiple of 32 (right at 32, 64, 128, 256; wrong at 31, 33, 63, 65)"
SOMEWHERE: list[tuple[Any, Callable[[], Any], Any, str, str]] = [
    (fuzzed.Ragged, lambda: [leaf(6, 48)], drawn, "x", f"the last axis of x (input 0) is {BLOCKS}"),
    (fuzzed.Ragged, lambda: [leaf(50)], drawn, "x", f"the length of x (input 0) is {BLOCKS}"),
    (fuzzed.Padded, lambda: [leaf(6, 40)], drawn, "x", f"the last axis of x (input 0) is {BLOCKS}"),
    (
        fuzzed.FirstBlock,
        lambda: [leaf(6, 48)],
        drawn,
        "x",
        "the last axis of x (input 0) is longer than 32",
    ),
    (fuzzed.Pairs, lambda: [leaf(6, 7)], drawn, "x", "the last axis of x (input 0) is odd"),
    (fuzzed.Assumed, lambda: [leaf(6, 5)], transposed, "x", "the cotangent is not contiguous"),
    (
        fuzzed.OneNumber,
        lambda: [leaf(6, 5)],
        of_a_sum,
        "x",
        "the cotangent repeats itself in memory (stride 0)",
    ),
    (
        fuzzed.Saved,
        lambda: [leaf(6, 5), drawn(5, 6).T.requires_grad_()],
        drawn,
        "x",
        "y (input 1) is not contiguous",
    ),
    (
        fuzzed.FirstRow,
        lambda: [leaf(6, 5), leaf(5)],
        drawn,
        "bias",
        "the first axis of x (input 0) is longer than 1 (right at 1; wrong at 2, 3, 4, 5)",
    ),
    (fuzzed.Cubes, lambda: [with_zero(6, 5)], drawn, "x", "x (input 0) holds a 0"),
    (fuzzed.Signed, lambda: [leaf(6, 5)], drawn, "x", "x (input 0) holds negative numbers"),
    (fuzzed.Found, lambda: [with_ties(6, 5)], drawn, "x", "x (input 0) holds equal numbers"),
    (
        fuzzed.Rows,
        lambda: [leaf(7, 4), torch.tensor([0, 3, 3, 1])],
        drawn,
        "table",
        "index (input 1) holds a number twice",
    ),
    (
        fuzzed.Scaled,
        lambda: [leaf(6, 5), leaf(1)],
        drawn,
        "scale",
        "scale (input 1) is broadcast along an axis of length 1",
    ),
    (
        fuzzed.Square,
        lambda: [leaf(6, 5), leaf(5, 5)],
        drawn,
        "w",
        "the first axis and the last axis of w (input 1) are equally long",
    ),
]


@pytest.mark.parametrize(
    ("function", "inputs", "arriving", "name", "when"),
    SOMEWHERE,
    ids=[f"{case[0].__name__}-{n}" for n, case in enumerate(SOMEWHERE)],
)
def test_it_is_told_when_only_a_function_is_wrong(
    function: Any, inputs: Any, arriving: Any, name: str, when: str
) -> None:
    told = said(found(function, *inputs(), arriving=arriving))
    (text,) = (text for title, text in told.items() if title.startswith(name))
    assert text.startswith(f"wrong only when {when}")


def test_a_size_of_numbers_is_found_by_halving() -> None:
    # Clipped at 20, and 2 % is as near as it comes.
    x = (30 * drawn(6, 5)).requires_grad_()
    (text,) = said(found(fuzzed.Clipped, x)).values()
    until, begin = map(float, re.findall(r"[\d.]+(?= \()|(?<=from )[\d.]+", text))
    assert text.startswith("wrong only when x (input 0) holds numbers beyond ")
    assert 0.97 * 20 < until <= 20 < begin < 1.03 * 20


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (fuzzed.Halved, [leaf(6, 48)]),  # wrong everywhere
        (fuzzed.Two, [leaf(6, 7)]),  # wrong for two reasons
        (fuzzed.Waits, [leaf(6, 48)]),  # not known to end
        (fuzzed.Counts, [leaf(6, 48)]),  # not known to be pure
    ],
)
def test_nothing_is_told_that_is_not_known(function: Any, inputs: Any) -> None:
    assert list(said(found(function, *inputs)).values()) == [""]


def test_what_may_be_noticed_does_not_run_again() -> None:
    fuzzed.COUNTED[0] = 0
    found(fuzzed.Counts, leaf(6, 48))
    assert fuzzed.COUNTED[0] == 1
    # It may run again, but only at the shapes that it was made for.
    found(fuzzed.Counts, leaf(6, 48), rerun=["Counts"])
    assert fuzzed.COUNTED[0] > 2
    assert {(6, 48)} == fuzzed.SHAPES


def test_a_large_function_is_tried_at_a_smaller_size() -> None:
    # 1000 is no multiple of 32, and becomes 104, which is none either.
    (text,) = said(found(fuzzed.Ragged, leaf(40, 1000))).values()
    assert text.startswith("wrong only when the last axis of x (input 0) is not a multiple of 32")


def test_fuzzing_leaves_no_trace() -> None:
    x, g = leaf(6, 48), drawn(6, 48)
    torch.manual_seed(3)
    run: Any = fuzzed.Draws.apply
    (gradient,) = torch.autograd.grad(run(x), x, g)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    witness = found(fuzzed.Draws, x, arriving=lambda *_: g, rerun=["Draws"])
    assert list(said(witness).values()) == [""]
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is not None
    assert torch.equal(x.grad, gradient)
    assert torch.equal(x.detach(), leaf(6, 48).detach())


def test_it_stands_in_the_text_the_record_and_the_faults() -> None:
    witness = found(fuzzed.Ragged, leaf(6, 48))
    (finding,) = witness.report.wrong
    assert f"  fuzz     {finding.fuzz[:60]}" in str(witness)
    (step,) = (s for s in report_record(witness.report, witness.tape)["steps"] if s["fuzz"])
    assert step["fuzz"] == finding.fuzz
    (fault,) = faults_of(witness.report, witness.tape)
    assert "not a multiple of 32" in fault.text


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(guilty, "court_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found(fuzzed.Ragged, leaf(6, 48))


def test_a_failure_of_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(guilty, "court_of", failing)
    assert list(said(found(fuzzed.Ragged, leaf(6, 48))).values()) == [""]


def test_without_time_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guilty, "_SECONDS", 0.0)
    assert list(said(found(fuzzed.Ragged, leaf(6, 48))).values()) == [""]
