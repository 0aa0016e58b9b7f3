"""Under a mode, torch detaches each result that it saves: that is no operation of the program's."""

from __future__ import annotations

from functools import reduce
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest
import torch

from gradwitness import Verdict, watch
from gradwitness.capture.recorder import record

if TYPE_CHECKING:
    from collections.abc import Callable

SAVING: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a result": torch.sigmoid,
    "in place": lambda x: (x + 1).tanh_(),
    "a view in place": lambda x: (x + 1)[1:].exp_(),
    "several results": lambda x: torch.nn.functional.layer_norm(x, (4,)),
    "indices": lambda x: torch.nn.functional.max_pool1d(x, 2),
    "through torch's own Python": lambda x: torch.nn.functional.softmax(x, -1),
}

BOTH: list[Callable[[torch.Tensor], torch.Tensor]] = [torch.sigmoid, attrgetter("data")]


def normal() -> torch.Tensor:
    return torch.randn(3, 4, requires_grad=True, generator=torch.Generator().manual_seed(0))


def operations(run: Callable[[torch.Tensor], torch.Tensor]) -> list[str]:
    """Return the operations outside of backward passes."""
    x = normal()
    with record() as recorder:
        run(x)
    return [call.base_op for call in recorder.tape.calls if call.during is None]


@pytest.mark.parametrize("name", SAVING)
def test_what_torch_saves_is_no_call(name: str) -> None:
    assert "aten.detach" not in operations(SAVING[name])


def twice(x: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(x.sigmoid().exp().sum(), x, create_graph=True)
    return gradient.tanh()


def test_what_is_saved_in_a_differentiable_pass_is_no_call() -> None:
    calls = operations(twice)
    # Of the ones that the pass starts from, torch makes a constant.
    assert calls.count("aten.detach") <= 1
    assert "aten.tanh" in calls


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.sigmoid(x).data,
        lambda x: torch.sigmoid(x).detach(),
        lambda x: [torch.sigmoid(x).data for _ in range(3)][-1],
        lambda x: torch.no_grad()(lambda: torch.sigmoid(x).data)(),
        lambda x: next(map(torch.Tensor.detach, [torch.sigmoid(x)])),
        # Both in one instruction.
        lambda x: list(map(attrgetter("data"), map(torch.sigmoid, [x])))[0],  # noqa: RUF015
        lambda x: reduce(lambda y, f: f(y), BOTH, x),
    ],
)
def test_what_the_program_detaches_is_a_call(
    run: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    assert "aten.detach" in operations(run)


@pytest.mark.parametrize("name", SAVING)
def test_its_gradients_are_judged(name: str) -> None:
    x = normal()
    with watch(names={"x": x}) as witness:
        torch.autograd.backward(SAVING[name](x).square().sum())
    assert witness.report.verdict is Verdict.AGREES


def test_a_constant_of_a_result_is_told() -> None:
    # The gradient of s (s detached) is s ds, half of that of s^2: the note says what is missing.
    x = normal()
    with watch(names={"x": x}) as witness:
        s = torch.sigmoid(x)
        torch.autograd.backward((s * s.data).sum())
    assert any("sight" in note.kind for note in witness.report.notes)
