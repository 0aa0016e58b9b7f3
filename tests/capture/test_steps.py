"""Steps that people really run: judged whole, and run as they would have run alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.steps import Tensors, checkpointed, data, losses, net, remains
from capture.steps_more import OPEN, STEPS
from capture.test_hygiene import NOTHING, traces

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 4


def watched(run: Callable[[], Tensors], keep: int | None = None) -> tuple[gw.Witness, Tensors]:
    torch.manual_seed(SEED)
    with gw.watch(keep=keep) as witness:
        left = run()
    return witness, left


@pytest.mark.parametrize("keep", [None, 0], ids=["kept", "released"])
@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_judged(name: str, keep: int | None) -> None:
    report = watched(STEPS[name], keep)[0].report
    assert report.rows
    assert [finding.title for finding in report.wrong] == []
    assert dict(report.reasons()) == OPEN.get(name, {})
    expected = gw.Verdict.INCONCLUSIVE if name in OPEN else gw.Verdict.AGREES
    assert report.verdict is expected


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_the_effect_that_it_has_alone(name: str) -> None:
    torch.manual_seed(SEED)
    alone = [None if t is None else t.detach().clone() for t in STEPS[name]()]
    state = torch.get_rng_state()
    _, left = watched(STEPS[name], keep=0)
    assert alone
    assert [t is None for t in left] == [t is None for t in alone]
    for one, other in zip(alone, left, strict=True):
        assert one is None or torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pass_inside_a_pass_is_judged() -> None:
    # A checkpoint of the older kind runs a pass of its own in its backward.
    torch.manual_seed(SEED)
    with gw.watch() as witness:
        checkpointed(reentrant=True)
    assert len(witness.tape.sweeps) == 3
    assert len(witness.report.rows) == 9


@pytest.mark.parametrize("when", ["before", "outside", "inside"])
def test_a_compiled_model_does_not_disturb(when: str) -> None:
    torch.manual_seed(SEED)
    model, (x, y) = net(), data()
    compiled = model if when == "inside" else torch.compile(model, backend="eager")
    if when == "before":
        losses(compiled, x, y)
    with gw.watch(model) as witness:
        if when == "inside":
            compiled = torch.compile(model, backend="eager")
        losses(compiled, x, y).backward()
    # Under a recorder the compiler steps aside, and the model runs as it is written.
    assert [row.verdict for row in witness.report.rows] == [gw.Verdict.AGREES] * 4
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_the_compiler_is_loaded_by_nobody_but_who_uses_it() -> None:
    code = """
import sys, torch, gradwitness as gw
model = torch.nn.Linear(2, 1)
with gw.watch(model) as witness:
    model(torch.ones(1, 2)).sum().backward()
    loaded = "torch._dynamo" in sys.modules
    torch.compile(lambda x: model(x).square().sum(), backend="eager")(torch.ones(3, 2)).backward()
print(loaded, "torch._dynamo" in sys.modules, witness.verdict.name, len(witness.tape.sweeps))
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split() == ["False", "True", "INCONCLUSIVE", "2"]


class Stops(nn.Module):
    """Raises in forward, in backward, or not at all."""

    def __init__(self, where: str, error: type[BaseException]) -> None:
        super().__init__()
        self.where, self.error = where, error

    def _stop(self, *_: Any) -> None:
        raise self.error(self.where)

    def forward(self, x: Any) -> Any:
        if self.where == "forward":
            self._stop()
        if self.where == "backward":
            x = x * 1
            x.grad_fn.register_prehook(self._stop)
        if self.where == "hook":
            x.register_hook(self._stop)
        return x


class StoppingSGD(torch.optim.SGD):
    """Raises after it has changed the parameters."""

    error: type[BaseException] = ValueError

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        raise self.error("optimizer")


def stopped_in(where: str, error: type[BaseException], watch: Any) -> Tensors:
    """Run one whole step, and a second one that stops; return what is left."""
    torch.manual_seed(SEED)
    stop = Stops("", error)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), stop, nn.Linear(4, 3))
    x, y = data()
    optimizer = StoppingSGD(model.parameters(), 0.1, momentum=0.9)
    optimizer.error = error

    def steps() -> None:
        with watch:
            losses(model, x, y).backward()
            stop.where = where
            losses(model, x, y).backward()
            optimizer.step()

    with pytest.raises(error, match=f"^{where}$"):
        steps()
    stop.where = ""
    assert [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()] == [0] * 5
    assert [p._backward_hooks for p in model.parameters()] == [None] * 6
    left = [t if t is None else t.detach().clone() for t in remains(model, optimizer)]
    # A step afterwards is a plain one.
    losses(model, x, y).backward()
    return [*left, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["forward", "backward", "hook", "optimizer"])
def test_a_step_that_is_stopped_is_judged_until_then(
    where: str, error: type[BaseException]
) -> None:
    import contextlib

    alone = stopped_in(where, error, contextlib.nullcontext())
    witness = gw.watch(keep=0)
    left = stopped_in(where, error, witness)
    assert traces() == NOTHING
    assert [t is None for t in left] == [t is None for t in alone]
    assert all(a is None or torch.equal(a, b) for a, b in zip(alone, left, strict=True))
    report = witness.report
    assert report.wrong == ()
    assert {row.verdict for row in report.rows[:6]} == {gw.Verdict.AGREES}
    assert len(report.rows) == {"forward": 6, "backward": 8, "hook": 8, "optimizer": 12}[where]
    assert str(witness)
