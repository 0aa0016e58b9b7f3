"""A compiled replay gives what `replay` gives for other leaves, whatever a step depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from architectures.zoo import build
from capture.programs import leaf, unruled
from gradwitness.capture import record
from gradwitness.engine.compiled_replay import CompiledReplay
from gradwitness.engine.traced import Traced, Untraceable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.traced import Noted


def recorded(step: Callable[..., Any], *leaves: Any) -> gw.Tape:
    with record(names={f"x{k}": x for k, x in enumerate(leaves)}) as recorder:
        step(*leaves).backward()
    return recorder.tape


def other_leaves(compiled: CompiledReplay, tape: gw.Tape, seed: int) -> dict[int, Any]:
    rng = np.random.default_rng(seed)
    given: dict[int, Any] = {n: tape.values[n].array for n in compiled.leaves}
    return {n: array + 0.01 * rng.standard_normal(array.shape) for n, array in given.items()}


def peak(array: Any) -> float:
    numbers = np.abs(np.asarray(array))
    return float(np.max(numbers[np.isfinite(numbers)], initial=0))


def check_same(replay: gw.Replay, expected: gw.Replay) -> None:
    pairs: list[Any] = [(replay.values, expected.values), (replay.arriving, expected.arriving)]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert ours
        # Where terms cancel, what is left is rounded as they are, in whatever order they are added.
        largest = max(peak(array) for array in theirs.values())
        for key in theirs:
            a, b = np.asarray(ours[key]), np.asarray(theirs[key])
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * peak(b) + 2**-52 * largest)
    assert replay.trusted == expected.trusted


def check_compiled(tape: gw.Tape) -> None:
    compiled = CompiledReplay(tape)
    results = []
    # In turn, so that nothing of one is left in the next.
    for seed in (1, 2, 1):
        leaves = other_leaves(compiled, tape, seed)
        replay = compiled(leaves)
        check_same(replay, gw.replay(tape, leaves))
        results.append(np.concatenate([g.ravel() for g in replay.arriving.values()]))
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    check_same(compiled({}), gw.replay(tape))


@pytest.mark.parametrize(
    "name", ["mlp", "residual", "lstm", "gru", "gpt2", "wavenet", "complex_layers", "meta_learning"]
)
def test_architectures(name: str) -> None:
    workload = build(name)
    with record(workload.model) as recorder:
        workload.step()
    check_compiled(recorder.tape)


def test_writes_to_views_and_in_place() -> None:
    def step(x: Any, y: Any) -> Any:
        z = x * 2
        rows = z[1:3]
        rows[:, ::3].mul_(y)
        rows.add_(1.5)
        before = z.sin()
        z = z.clone().clamp_(-1)
        z[0].add_(1)
        return (z * z).sum() + before.sum()

    check_compiled(recorded(step, leaf(4, 6), leaf(2)))


def test_a_step_that_depends_on_numbers_is_taken_as_it_is() -> None:
    # Of several results, and with ties that a branch looks for.
    check_compiled(recorded(lambda x: (torch.linalg.slogdet(x)[1] * x.median()).sum(), leaf(3, 3)))


def test_what_has_no_rule_comes_from_the_record() -> None:
    tape = recorded(lambda x: (unruled(x * x) * x).sum(), leaf(3))
    assert gw.replay(tape).trusted
    check_compiled(tape)


def test_nan_is_left_to_the_replay() -> None:
    tape = recorded(lambda x: (x.sqrt() * x).sum(), torch.rand(3).requires_grad_())
    compiled = CompiledReplay(tape)
    (number,) = compiled.leaves
    leaves = {number: np.array([4.0, -1.0, 9.0])}
    # What the root of -1 should be comes from the record, as in any replay.
    check_same(compiled(leaves), gw.replay(tape, leaves))
    (x,) = (value for value in tape.values if value.name == "x0")
    check_same(compiled({}), gw.replay(tape))
    with pytest.raises(Untraceable, match="NaN"):
        CompiledReplay(recorded(lambda x: x.sqrt().sum(), torch.tensor([-1.0], requires_grad=True)))
    assert x.id == number


def test_leaves_of_another_shape_are_refused_as_a_replay_refuses_them() -> None:
    tape = recorded(lambda x: (x * x).sum(), leaf(3))
    compiled = CompiledReplay(tape)
    with pytest.raises(IndexError):
        compiled({compiled.leaves[0]: np.ones(1)})


def traced(numbers: Any, *, is_shared: bool = False) -> Any:
    calls: list[Noted] = []
    return Traced(calls, np.array(numbers, dtype=float), is_shared=is_shared)


@pytest.mark.parametrize(
    "use",
    [
        bool,
        float,
        np.asarray,
        lambda x: np.add(x, 1, out=x),
        lambda x: np.array_equal(x, x),
    ],
)
def test_what_cannot_be_made_again_is_refused(use: Callable[[Any], object]) -> None:
    with pytest.raises(Untraceable):
        use(traced([1.0]))


def test_what_others_read_is_not_changed() -> None:
    shared = traced([1.0, 2.0], is_shared=True)
    for array in (shared, shared[:1], 1 * shared, np.reshape(shared, (2, 1))):
        with pytest.raises(Untraceable, match="read elsewhere"):
            array[0] = 5
        with pytest.raises(Untraceable, match="read elsewhere"):
            array += 1
    own = shared + 1
    own[0] = 5
    assert own.value.tolist() == [5.0, 3.0]
    assert shared.value.tolist() == [1.0, 2.0]


def test_a_call_is_made_again_with_what_is_there_then() -> None:
    x = traced([1.0, -2.0, 3.0])
    y = np.where(x <= 0, 0, x)
    z = np.power(1 * y, 2) + 2 * np.sum(y)
    assert z.value.tolist() == [9, 8, 17]
    x.value[:] = [-1, 5, -2]
    for call in x.calls:
        for again in call.again():
            again()
    assert z.value.tolist() == [10, 35, 10]
    # A factor of 1 is no call; comparison, choice, power, sum, product and addition are.
    assert len(x.calls) == 6


def test_another_recording_of_the_same_steps() -> None:
    def step(x: Any) -> Any:
        return (x * 2 * x).sum()

    first, second = (recorded(step, leaf(3)) for _ in range(2))
    compiled = CompiledReplay(first)
    replay = compiled.of(second)
    assert replay is not None
    ((node, value),) = second.leaves()
    x = np.asarray(value.array, dtype=float)
    assert np.array_equal(replay.arriving[0, node.id, 0], 4 * x)
    others: list[Any] = [
        recorded(lambda x: (x * 3 * x).sum(), leaf(3)),
        recorded(lambda x: (x * 2 * x).sum() + 0, leaf(3)),
        recorded(step, leaf(4)),
        recorded(step, leaf(3).detach().double().requires_grad_()),
    ]
    assert [compiled.of(other) for other in others] == [None] * 4
    by_three, by_five = (
        recorded(lambda x, w=w: (x * w).sum(), leaf(3))
        for w in (torch.tensor([3, 1, 2]), torch.tensor([5, 1, 2]))
    )
    assert CompiledReplay(by_three).of(by_five) is None
    nan = recorded(lambda x: x.sqrt().sum(), torch.tensor([-1.0], requires_grad=True))
    good = recorded(lambda x: x.sqrt().sum(), torch.tensor([4.0], requires_grad=True))
    assert CompiledReplay(good).of(nan) is None


@pytest.mark.parametrize(
    ("step", "is_taken"),
    [
        (lambda x: x * torch.tensor([3, 1, 2]), True),
        (lambda x: x * torch.randint(1, 1000, (3,)), False),
        (lambda x: x * torch.rand(3), False),
        (lambda x: unruled(x * x) * x, False),
    ],
)
def test_what_else_is_recorded_must_be_the_same(step: Callable[[Any], Any], is_taken: bool) -> None:
    torch.manual_seed(0)
    first, other = (recorded(lambda x: step(x).sum(), leaf(3)) for _ in range(2))
    replay = CompiledReplay(first).of(other)
    assert (replay is not None) is is_taken
    if replay is not None:
        check_same(replay, gw.replay(other))
