"""Functions that talk to other processes: what arrives there is on no record of this one."""

# Torch prescribes the parameters.
# ruff: noqa: ARG004

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch was built without it"),
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
]


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    """Make this process the only one of a group."""
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/group")
    yield
    dist.destroy_process_group()


class Reduced(Function):
    """The sum over all processes, each of which has the same loss."""

    runs = 0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Reduced.runs += 1
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class Copied(Function):
    """The identity, whose gradient is the sum over all processes: here as if there were two."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        g = grads[0].clone()
        dist.all_reduce(g)
        return 2 * g


def reduced(x: Any) -> Any:
    return apply(Reduced, x)


def copied(x: Any) -> Any:
    return apply(Copied, x)


def gathered(x: Any) -> Any:
    return torch.cat(tuple(differentiable.all_gather(x)))  # type: ignore[no-untyped-call]


def all_reduced(x: Any) -> Any:
    return differentiable.all_reduce(x)  # type: ignore[no-untyped-call]


def exchanged(x: Any) -> Any:
    return differentiable.all_to_all_single(torch.empty(5), x)  # type: ignore[no-untyped-call]


def broadcast(x: Any) -> Any:
    return differentiable.broadcast(x, 0)  # type: ignore[no-untyped-call]


def scattered(x: Any) -> Any:
    return differentiable.reduce_scatter(torch.empty(5), [x])  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "function", [reduced, copied, gathered, all_reduced, exchanged, broadcast, scattered]
)
def test_what_talks_to_other_processes_is_left_open(function: Callable[[Any], Any]) -> None:
    # Not even what the program allows runs again: the others would not answer.
    with gw.watch(rerun=True) as witness:
        function(leaf(5)).sin().sum().backward()
    assert witness.report.wrong == ()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(r.startswith("it talks to other processes (c10d.") for r in witness.report.reasons())


def test_it_runs_as_often_as_without_watching() -> None:
    Reduced.runs = 0
    with gw.watch(rerun=True):
        reduced(leaf(5)).sin().sum().backward()
    assert Reduced.runs == 1
