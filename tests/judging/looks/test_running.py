"""Gradients that are added up as they are sent: judged as ever, and not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.capture.passes.sweeps import SweepDraft
from gradwitness.judging.comparing.compare import compare
from gradwitness.judging.looks.running import AT_ONCE, RunningSum
from gradwitness.tape import Kind, Value
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE, TURNS = 300, 3 * AT_ONCE + 1


def looped(
    keep: int | None = 0,
    hook: Callable[[torch.Tensor], torch.Tensor | None] | None = None,
    factor: float = 1,
    depth: str = "full",
) -> gw.Witness:
    """Run a loop that multiplies by one weight in each turn."""
    random = torch.Generator().manual_seed(0)
    w: Any = torch.nn.Parameter(torch.randn(SIDE, SIDE, generator=random) / SIDE**0.5)
    x = torch.randn(4, SIDE, generator=random)
    if hook is not None:
        w.register_hook(hook)
    with gw.watch(names={"w": w}, keep=keep, depth=depth) as witness:
        for _ in range(TURNS):
            x = torch.tanh(x @ w)
        torch.autograd.backward(x.square().sum() * factor)
    return witness


def value(array: NDArray[Any]) -> Value:
    return Value(0, array.shape, str(array.dtype), array)


def terms(count: int = 20, seed: int = 0) -> list[NDArray[Any]]:
    random = np.random.default_rng(seed)
    return [*random.standard_normal((count, SIDE, SIDE), np.float32)]


def summed(numbers: list[NDArray[Any]]) -> NDArray[Any]:
    total = numbers[0]
    for one in numbers[1:]:
        total = total + one
    return total


@pytest.fixture
def most_held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how many gradients of the weight are held after each node."""
    counts: list[int] = []
    ran = SweepDraft._node_ran

    def count(self: SweepDraft, *arguments: Any) -> None:
        ran(self, *arguments)
        drafts = self._values.drafts
        held = [d for d in drafts if d.shape == (SIDE, SIDE) and d.array is not None]
        counts.append(len(held))

    monkeypatch.setattr(SweepDraft, "_node_ran", count)
    return counts


def test_as_many_are_held_as_are_added_at_once(most_held: list[int]) -> None:
    assert looped().report.verdict is Verdict.AGREES
    # The weight, what was sent and not yet added, and as much again on its way.
    assert max(most_held) <= AT_ONCE + 4


@pytest.mark.parametrize("factor", [1.001, -1, 0])
def test_what_arrives_wrong_is_refuted(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = SweepDraft._arrived

    def changed(self: SweepDraft, number: int, gradients: Any) -> None:
        if self._graph.nodes[number].kind == Kind.ACCUMULATE:
            gradients[0].mul_(factor)
        arrived(self, number, gradients)

    monkeypatch.setattr(SweepDraft, "_arrived", changed)
    (row,) = looped().report.rows
    assert row.verdict is Verdict.DISAGREES


@pytest.mark.parametrize("keep", [0, None])
def test_one_number_that_a_hook_changes_is_seen_by_samples(keep: int | None) -> None:
    def change(g: torch.Tensor) -> None:
        array = g.numpy()
        array[7, 11] += 0.01 * np.abs(array).max()

    assert looped(keep, change, depth="fast").report.verdict is Verdict.DISAGREES


@pytest.mark.parametrize("keep", [0, None])
def test_hooks_are_judged_by_what_was_sent(keep: int | None) -> None:
    assert looped(keep, lambda g: 2 * g).report.verdict is Verdict.DISAGREES
    assert looped(keep, lambda g: g.clone()).report.verdict is Verdict.AGREES


def test_sums_are_those_of_float32() -> None:
    numbers = terms()
    running = RunningSum()
    assert running.add([*map(value, numbers[:AT_ONCE])])
    assert running.count == AT_ONCE
    found = running.compared(value(summed(numbers)), [*map(value, numbers[AT_ONCE:])])
    assert found is not None
    assert found.verdict is Verdict.AGREES
    # Of 20 normal numbers the largest sum is below 25, and it is rounded 19 times by u = 2^-24.
    assert found.detects < 2 * 20 * 25 * 2**-24
    off = summed(numbers)
    off[3, 5] = np.nextafter(off[3, 5], np.float32(np.inf))
    assert running.compared(value(off), ()) is None


def verdict(running: RunningSum, arrived: NDArray[Any]) -> Verdict:
    expected, size = running.bounded(value(arrived))
    assert size > 0
    return compare(arrived, expected, "float32").verdict


def test_another_order_is_no_fault() -> None:
    numbers = terms()
    running = RunningSum()
    assert running.add([*map(value, numbers)])
    backwards = summed(numbers[::-1])
    assert (backwards != summed(numbers)).any()
    assert verdict(running, backwards) is not Verdict.DISAGREES
    assert verdict(running, summed(numbers[:-1])) is Verdict.DISAGREES
    assert verdict(running, np.float32(1.001) * backwards) is Verdict.DISAGREES
    assert verdict(running, backwards[:1]) is Verdict.DISAGREES


def test_terms_that_cancel_allow_what_they_round() -> None:
    # (1e8 + x) - 1e8 is x to 8, half the spacing of float32 there, in one order, and x in another.
    (x,) = terms(1)
    large = np.full_like(x, 1e8)
    running = RunningSum()
    assert running.add([*map(value, (large, x, -large))])
    assert verdict(running, x) is not Verdict.DISAGREES


@pytest.mark.parametrize("factor", [0.0, 1e-36])
@pytest.mark.parametrize("keep", [0, None])
def test_zeros_and_tiny_sums_agree(factor: float, keep: int | None) -> None:
    # As of a loss that is masked: all is zero, and right.
    assert looped(keep, factor=factor).report.verdict is Verdict.AGREES


def test_what_cannot_be_added_is_left() -> None:
    numbers = terms(3)
    for other in (
        np.zeros((2, 2), np.float32),
        numbers[0][:-1],
        numbers[0].astype(np.float64),
        np.broadcast_to(np.float32(1), (2, 2)),
    ):
        running = RunningSum()
        assert not running.add([value(numbers[0]), value(other)])
        # Those after it would come in another order.
        assert not running.add([value(numbers[1])])
        assert running.count == 0
        assert running.compared(value(summed(numbers)), [*map(value, numbers)]) is None
