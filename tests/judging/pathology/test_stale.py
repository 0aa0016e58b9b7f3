"""Gradients of an earlier step that are added to, distinguished from intended accumulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, loss_of, network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from syrupy.assertion import SnapshotAssertion

OPTIMIZERS: dict[str, Callable[[Iterable[Any]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "SGD, momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "SGD, foreach": lambda p: torch.optim.SGD(p, 0.1, foreach=True),
    "SGD, fused": lambda p: torch.optim.SGD(p, 0.1, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.1, foreach=False),
    "Adam, foreach": lambda p: torch.optim.Adam(p, 0.1, foreach=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, 0.1, fused=True),
    "AdamW": torch.optim.AdamW,
}


def train(name: str, zero: str, *, micro: int = 1, steps: int = 3) -> gw.Witness:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    with gw.watch(model) as witness:
        for _ in range(steps):
            if zero:
                optimizer.zero_grad(set_to_none=zero == "none")
            for part in range(micro):
                (loss_of(model, data()[part::micro]) / micro).backward()
            optimizer.step()  # here
    return witness


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_forgotten_zero_grad_is_one_note(name: str, snapshot: SnapshotAssertion) -> None:
    (note,) = train(name, "").report.notes
    assert note.kind == "stale gradient"
    assert note.text == snapshot
    # The update that had used them.
    assert at(note, train, "# here")
    assert note.sweep == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("zero", ["none", "zeros"])
@pytest.mark.parametrize("micro", [1, 3])
def test_training_as_it_should_be(name: str, zero: str, micro: int) -> None:
    assert train(name, zero, micro=micro, steps=2).report.notes == ()


def test_updates_by_hand(snapshot: SnapshotAssertion) -> None:
    def by_data(parameter: Any) -> None:
        parameter.data -= 0.1 * parameter.grad

    def without_gradients(parameter: Any) -> None:
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad

    for update in (by_data, without_gradients):
        model = network()
        with gw.watch(model) as witness:
            for _ in range(2):
                loss_of(model, data()).backward()
                for parameter in model.parameters():
                    update(parameter)
        (note,) = witness.report.notes
        assert note.kind == "stale gradient"
        # Names survive a write through another tensor of the same memory.
        assert note.text == snapshot
        assert {row.name for row in witness.report.rows} == dict(model.named_parameters()).keys()


def updates_of(optimizers: dict[Any, Any], clears: str, *, clips: bool) -> Callable[[Any], None]:
    def update(parameter: Any) -> None:
        if clips:
            parameter.grad.clamp_(-0.5, 0.5)
        optimizers[parameter].step()
        if clears == "in the hook":
            optimizers[parameter].zero_grad()

    return update


@pytest.mark.parametrize("clears", ["never", "in the hook", "after the pass"])
@pytest.mark.parametrize("clips", [False, True])
def test_an_optimizer_in_a_hook(clears: str, clips: bool) -> None:
    model = network()
    parameters: list[Any] = [*model.parameters()]
    optimizers = {p: torch.optim.Adam([p], 0.1) for p in parameters}
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(updates_of(optimizers, clears, clips=clips))
    with gw.watch(model) as witness:
        for _ in range(3):
            loss_of(model, data()).backward()
            if clears == "after the pass":
                model.zero_grad(set_to_none=False)
    notes = [note for note in witness.report.notes if note.kind == "stale gradient"]
    assert len(notes) == (clears == "never")
    for note in notes:
        assert note.text.startswith("0.weight, 0.bias, 2.weight and 2.bias: backward passes 2, 3 ")
        assert at(note, updates_of, "def update(")


@pytest.mark.parametrize("updates", [False, True])
def test_hooks_that_accumulate_first(updates: bool) -> None:
    # One logs; the other updates, and clears, with every second pass.
    model, norms = network(), list[float]()
    parameters: list[Any] = [*model.parameters()]
    optimizers = {p: torch.optim.SGD([p], 0.1) for p in parameters}

    def look(parameter: Any) -> None:
        norms.append(parameter.grad.norm().item())
        if updates and (len(norms) - 1) % 8 >= 4:
            optimizers[parameter].step()
            optimizers[parameter].zero_grad()

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(look)
    with gw.watch(model) as witness:
        for _ in range(4):
            loss_of(model, data()).backward()
    assert "stale gradient" not in kinds(witness.report.notes)


def test_accumulation_over_blocks_is_no_fault() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for last in (False, True):
        with gw.watch(model) as witness:
            loss_of(model, data()).backward()
            if last:
                optimizer.step()
                optimizer.zero_grad()
        assert witness.report.notes == ()


def test_two_players_who_take_turns() -> None:
    # The generator's pass leaves gradients in the critic, which are cleared before they are used.
    generator, critic = network(), torch.nn.Linear(1, 1)
    first, second = (torch.optim.Adam(m.parameters()) for m in (generator, critic))
    with gw.watch(generator, critic) as witness:
        for _ in range(2):
            generated = generator(data())
            second.zero_grad()
            critic(generated.detach()).square().mean().backward()
            second.step()
            first.zero_grad()
            critic(generated).exp().mean().backward()
            first.step()
    assert witness.report.notes == ()


def test_two_players_of_whom_one_forgets(snapshot: SnapshotAssertion) -> None:
    generator, critic = network(), torch.nn.Linear(1, 1)
    first, second = (torch.optim.Adam(m.parameters()) for m in (generator, critic))
    with gw.watch(generator, critic) as witness:
        for _ in range(2):
            generated = generator(data())
            critic(generated.detach()).square().mean().backward()
            second.step()
            first.zero_grad()
            critic(generated).exp().mean().backward()
            first.step()
    (note,) = witness.report.notes
    # The generator's pass added to what an update had used; the critic's next one only went on.
    assert note.text == snapshot


def test_only_what_was_forgotten_is_named() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gw.watch(model) as witness:
        for _ in range(2):
            loss_of(model, data()).backward()
            optimizer.step()
            model[0].zero_grad()
    (note,) = witness.report.notes
    assert note.text.startswith("2.weight and 2.bias: ")


def test_a_limit_on_weights_between_steps_is_no_update_of_a_stale_gradient() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gw.watch(model) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, data()).backward()
            optimizer.step()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.clamp_(-1, 1)
    assert kinds(witness.report.notes) == []
