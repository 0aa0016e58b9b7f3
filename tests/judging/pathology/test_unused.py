"""Results of custom functions that nothing uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

KIND = "result used by nothing"


class _Pass(torch.autograd.Function):
    """Returns its first argument."""

    @staticmethod
    def forward(ctx: Any, x: Any, other: Any = None) -> Any:
        del ctx, other
        return x

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        del ctx
        return g[0], None


class _Pair(torch.autograd.Function):
    """Returns two results."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        del ctx
        return 2 * x, x + 1

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        del ctx
        return 2 * g[0] + g[1]


class _Doubled(torch.autograd.Function):
    """Changes its argument in place."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        del ctx
        return 2 * g[0]


PASS: Any = _Pass
PAIR: Any = _Pair
DOUBLED: Any = _Doubled


def watched(step: Callable[[Any], Any]) -> gw.Witness:
    model = network()
    with gw.watch(model) as witness:
        step(model(data())).backward()
    return witness


def thrown_away(y: Any) -> Any:
    PASS.apply(y, y.sum())
    return y.mean()


def both_thrown_away(y: Any) -> Any:
    PAIR.apply(y)
    return y.mean()


def used_too_early(y: Any) -> Any:
    loss = y.mean()
    y = PASS.apply(y)
    return loss


@pytest.mark.parametrize("step", [thrown_away, both_thrown_away, used_too_early])
def test_a_result_that_nothing_uses(step: Callable[[Any], Any], tmp_path: Path) -> None:
    witness = watched(step)
    (note,) = witness.report.notes
    assert note.kind == KIND
    assert at(note, step, ".apply(")
    # The recording tells it, too.
    witness.save(tmp_path / "tape.npz")
    assert gw.judge(gw.load_tape(tmp_path / "tape.npz")).notes == witness.report.notes


def test_it_says_what_to_do(snapshot: SnapshotAssertion) -> None:
    (note,) = watched(thrown_away).report.notes
    assert note.text == snapshot


def gone_on_with(y: Any) -> Any:
    return PASS.apply(y, y.sum()).mean()


def one_of_two(y: Any) -> Any:
    return PAIR.apply(y)[1].mean()


def a_number_read(y: Any) -> Any:
    PASS.apply(y.mean()).item()
    return y.mean()


def without_gradients(y: Any) -> Any:
    with torch.no_grad():
        PASS.apply(y)
    PASS.apply(y.detach())
    return y.mean()


def changed_in_place(y: Any) -> Any:
    y = y + 0
    DOUBLED.apply(y)
    return y.mean()


def in_a_checkpoint(y: Any) -> Any:
    return checkpoint(lambda x: 2 * PASS.apply(x), y, use_reentrant=False).mean()


@pytest.mark.parametrize(
    "step",
    [
        gone_on_with,
        one_of_two,
        a_number_read,
        without_gradients,
        changed_in_place,
        in_a_checkpoint,
        lambda y: PASS.apply(y.mean()),
    ],
)
def test_results_that_are_used(step: Callable[[Any], Any]) -> None:
    assert KIND not in kinds(watched(step).report.notes)


def test_without_a_backward_pass_nothing_is_missed() -> None:
    with gw.watch() as witness:
        PASS.apply(network()(data()))
    assert witness.report.notes == ()
