"""gradcheck(fuzz=True): a function that is right at its inputs, tried at others."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional

import gradwitness as gw
from judging import fuzzed_functions as fuzzed

if TYPE_CHECKING:
    from collections.abc import Callable


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_()


def gains(*shape: int) -> torch.Tensor:
    return leaf(*shape).detach().abs().add(0.1).requires_grad_()


def symmetric(n: int) -> torch.Tensor:
    a = leaf(n, n, seed=1).detach()
    return (a + a.T).requires_grad_()


class Symmetric(torch.autograd.Function):
    """The sum of a's squares, whose gradient counts each pair once: right for symmetric a."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        return (a * a).sum()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (a,) = ctx.saved_tensors
        return g * (a + a.T)


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "blocks": (fuzzed.RaggedRight.apply, (leaf(3, 40),)),
    "rows": (fuzzed.RowsRight.apply, (leaf(5, 3), torch.tensor([0, 2, 4]))),
    "largest of ties": (lambda x: x.max(-1).values, (leaf(5, 4),)),
    "median of ties": (lambda x: x.kthvalue(3).values, (leaf(5, 5, 5),)),
    "sorted": (lambda x: x.sort(-1).values.cumsum(0), (leaf(5, 4),)),
    "relu": (torch.relu, (leaf(5, 4),)),
    "norm": (lambda x: x.norm(dim=-1), (leaf(5, 4),)),
    "layer norm": (
        lambda x, w, b: functional.layer_norm(x, w.shape, w, b),
        (leaf(5, 8), leaf(8), leaf(8)),
    ),
    "pooled": (lambda x: functional.max_pool2d(x, 2), (leaf(2, 3, 4, 4),)),
    "classes": (functional.cross_entropy, (leaf(5, 4), torch.tensor([0, 3, 2, 1, 0]))),
    "module": (torch.nn.Linear(4, 3).double(), (leaf(5, 4).double().detach().requires_grad_(),)),
    "badly conditioned": (
        lambda b, lu, pivots: torch.linalg.lu_solve(lu, pivots, b),
        (leaf(3, 4), leaf(3, 3, seed=1), torch.tensor([1, 2, 3], dtype=torch.int32)),
    ),
    "reads its storage": (lambda x: x.as_strided((2, 3), (3, 1), 0), (leaf(4, 3),)),
    "symmetric": (Symmetric.apply, (symmetric(4),)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_stays_right(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    function, inputs = RIGHT[name]
    assert gw.gradcheck(function, inputs, fuzz=True)
    (line,) = capsys.readouterr().out.splitlines()
    count = re.match(r"fuzz: right in (\d+) trials in float64: (\d+) other lengths of \d ax", line)
    assert count
    assert int(count[1]) > 20


def test_it_says_nothing_unless_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert gw.gradcheck(fuzzed.Ragged.apply, leaf(3, 64))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "inputs", "when"),
    [
        (
            fuzzed.Ragged,
            (leaf(3, 64),),
            "wrong only when the last axis of inputs[0] is not a multiple of 32 (right at 32, 64,",
        ),
        (fuzzed.Pairs, (leaf(3, 4),), "wrong only when the last axis of inputs[0] is odd"),
        (fuzzed.Fixed, (leaf(48, 2),), "wrong only when the first axis of inputs[0] is not 48"),
        (fuzzed.Cubes, (leaf(3, 4),), "wrong only when inputs[0] holds a 0"),
        (fuzzed.Signed, (gains(3, 4),), "wrong only when inputs[0] holds negative numbers"),
        (
            fuzzed.Rows,
            (leaf(5, 3), torch.tensor([0, 2, 4])),
            "wrong only when inputs[1] holds a number twice",
        ),
        (
            fuzzed.FirstRow,
            (leaf(1, 3), leaf(3)),
            "wrong only when the first axis of inputs[0] is longer than 1 (right at 1; wrong at 2",
        ),
    ],
)
def test_what_is_wrong_elsewhere_disagrees(function: Any, inputs: Any, when: str) -> None:
    assert gw.gradcheck(function.apply, inputs)
    with pytest.raises(gw.GradientDisagreement, match=re.escape(when)) as caught:
        gw.gradcheck(function.apply, inputs, fuzz=True)
    assert str(caught.value).startswith("DISAGREES")
    assert "at other inputs: right at its own inputs" in str(caught.value)


def test_what_no_condition_describes_disagrees_with_an_example() -> None:
    with pytest.raises(
        gw.GradientDisagreement, match=r"wrong in \d+ of \d+ trials; the first: the"
    ):
        gw.gradcheck(fuzzed.Two.apply, leaf(3, 4), fuzz=True)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: functional.dropout(x), leaf(3, 4)),  # draws random numbers
        (torch.nn.Linear(4, 3), leaf(3, 4)),  # not in float64
    ],
)
def test_what_cannot_be_tried_is_inconclusive(function: Any, inputs: Any) -> None:
    with pytest.raises(gw.GradientDisagreement, match=r"INCONCLUSIVE\nfuzz: it could not be tried"):
        gw.gradcheck(function, inputs, fuzz=True)


def test_what_only_a_probe_shows_is_tried_too() -> None:
    with pytest.raises(gw.GradientDisagreement, match="cotangent is not contiguous"):
        gw.gradcheck(fuzzed.Assumed.apply, leaf(3, 4))


def test_what_is_wrong_at_its_inputs_is_told_with_when() -> None:
    # Its own code may not be known to be pure: whoever asks for fuzzing lets it run.
    for function in (fuzzed.Ragged, fuzzed.Counts):
        with pytest.raises(gw.GradientDisagreement, match="is not a multiple of 32") as caught:
            gw.gradcheck(function.apply, leaf(3, 48), fuzz=True)
        assert str(caught.value).count("wrong only when") == 1
    with pytest.raises(gw.GradientDisagreement) as caught:
        gw.gradcheck(fuzzed.Counts.apply, leaf(3, 48))
    assert "wrong only when" not in str(caught.value)


def test_what_waits_is_bounded_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # It sleeps longer than 400 trials take of the processor.
    monkeypatch.setattr("gradwitness.api.fuzz._SECONDS", 0.3)

    def waits(x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return x * x

    assert gw.gradcheck(waits, leaf(2, 3), fuzz=True)
    said = capsys.readouterr()
    assert "then there was no time for more" in said.out + said.err
