"""Nothing that fails in gradwitness leaves the watched block, nor changes what the program does."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.functions import Scaled, apply
from capture.programs import leaf, weighted
from capture.test_hygiene import NOTHING, traces
from gradwitness import _failure
from gradwitness._failure import FAILED
from gradwitness.capture.border import Border
from gradwitness.capture.calls.dispatch import DispatchRecorder
from gradwitness.capture.calls.source import ModuleTrail
from gradwitness.capture.memory.retention import Retention
from gradwitness.capture.memory.values import ValueStore
from gradwitness.capture.passes.graph import GraphRecorder
from gradwitness.capture.passes.sweeps import SweepDraft
from gradwitness.capture.recorder import Recorder
from gradwitness.judging import conclusion, local, sweep
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.local import Judge
from gradwitness.judging.looks import whole
from gradwitness.judging.pathology.panel import Panel
from gradwitness.judging.sweep import SweepCheck

if TYPE_CHECKING:
    from collections.abc import Callable


class Net(nn.Module):
    """Has a bit of all that is recorded in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        h = apply(Scaled, h, 3.0) + self.second(h).reshape(-1, 4)
        with torch.no_grad():
            self.seen += h.detach().mean(0)
        h.untyped_storage()
        return h.t().square().mean()


def looks(parameter: Any) -> None:
    assert parameter.grad.isfinite().all()


def train() -> list[torch.Tensor]:
    """Train for two steps, and return all that came of it."""
    torch.manual_seed(0)
    net, x = Net(), torch.randn(5, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    bias: Any = net.first.bias
    bias.register_post_accumulate_grad_hook(looks)
    for _ in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(net(x))
        optimizer.step()
    torch.autograd.grad(net(x), [net.second.weight])
    return [*net.state_dict().values(), *(p.grad for p in net.parameters() if p.grad is not None)]


class Planted(Exception):
    """Of no kind that anybody catches."""


class Fails:
    """Does what a function does, but for one call of it."""

    def __init__(self, real: Callable[..., Any], at: int, error: type[BaseException]) -> None:
        self.real = real
        self.left = at
        self.error = error
        self.failed = False

    def __get__(self, owner: Any, _: Any = None) -> Callable[..., Any]:
        return lambda *args, **kwargs: self(owner, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.failed = True
            raise self.error("planted")
        return self.real(*args, **kwargs)


# What computes the gradients of a step: of any, and of those that move numbers.
COMPUTING: list[tuple[Any, str]] = [(sweep, "gradients"), (whole, "moved_back")]

# Where one is raised at the first call, and in the middle of a step.
BORDERS: list[tuple[Any, str]] = [
    (DispatchRecorder, "_bind"),
    (DispatchRecorder, "_write"),
    (DispatchRecorder, "add"),
    (DispatchRecorder, "hands_out"),
    (ValueStore, "of"),
    (ValueStore, "made"),
    (ValueStore, "before_write"),
    (ValueStore, "lend"),
    (ValueStore, "own"),
    (Retention, "drop"),
    (GraphRecorder, "walk"),
    (GraphRecorder, "_join"),
    (SweepDraft, "_arrived"),
    (SweepDraft, "_node_ran"),
    (SweepDraft, "_program_hooks"),
    (SweepDraft, "_first_after"),
    (SweepDraft, "end"),
    (ModuleTrail, "add"),
    (ModuleTrail, "_enter"),
    (ModuleTrail, "here"),
    (Recorder, "_name_parameters"),
    (Recorder, "_written"),
    (Judge, "begins"),
    (Judge, "node_ran"),
    (Judge, "ends"),
    (Judge, "_results"),
    (SweepCheck, "judge_node"),
    (SweepCheck, "_fan_in"),
    (SweepCheck, "_accumulate"),
    (SweepCheck, "rows"),
    (Records, "exact"),
    (Panel, "notes"),
    (local, "evaluate"),
    (conclusion, "replayed_gradients"),
    (conclusion, "finished"),
    *COMPUTING,
]
# What only says how many digits of gradients that agree are right, and what rests on that.
DIGITS = [(Panel, "notes"), (conclusion, "replayed_gradients")]


@pytest.mark.parametrize("at", [1, 2, 7])
@pytest.mark.parametrize(
    ("owner", "name"), BORDERS, ids=lambda item: getattr(item, "__name__", item)
)
def test_a_failure_is_told_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int
) -> None:
    # What is planted here stands for a fault of the code around it.
    monkeypatch.setattr(_failure, "_LIBRARIES", (__name__.partition(".")[0],))
    plain = train()
    planted = Fails(getattr(owner, name), at, Planted)
    monkeypatch.setattr(owner, name, planted)
    with gw.watch() as witness:
        watched = train()
    report = witness.report
    assert traces() == NOTHING
    assert all(map(torch.equal, plain, watched))
    if not planted.failed:
        # It runs less often than that.
        assert at > 1
        witness.require()
        return
    assert [note.kind for note in report.notes].count("gradwitness failed") == 1
    if (owner, name) in DIGITS:
        # No verdict depends on it.
        witness.require()
        assert any("Planted (planted) at " in note.text for note in report.notes)
        return
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    told = [reason for reason in report.reasons() if reason.startswith(FAILED)]
    assert told
    assert all("Planted (planted) at " in reason for reason in told)
    with pytest.raises(gw.GradientDisagreement, match=rf"(?s)^INCONCLUSIVE\n.*{FAILED}: Planted"):
        witness.require()


@pytest.mark.parametrize(("owner", "name"), COMPUTING)
def test_a_step_that_cannot_be_judged_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Whichever step it is, no other one is refuted for what is missing."""
    real: Callable[..., Any] = getattr(owner, name)
    at = 0
    while True:
        at += 1
        planted = Fails(real, at, Planted)
        monkeypatch.setattr(owner, name, planted)
        with gw.watch() as witness:
            train()
        if not planted.failed:
            break
        report = witness.report
        assert report.count(gw.Verdict.DISAGREES) == 0
        assert report.count(gw.Verdict.AGREES) > 50
        assert all(row.verdict is not gw.Verdict.DISAGREES for row in report.rows)
        assert len(report.rows) == 9
    witness.require()
    assert at > 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["of", "made"])
def test_an_interruption_goes_through(
    monkeypatch: pytest.MonkeyPatch, name: str, error: type[BaseException]
) -> None:
    monkeypatch.setattr(ValueStore, name, Fails(getattr(ValueStore, name), 9, error))
    with pytest.raises(error, match=r"^planted$"), gw.watch():
        train()
    assert traces() == NOTHING


def own_forward() -> None:
    class Module(nn.Module):
        def forward(self) -> None:
            culprit()

    Module()()


def own_backward() -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 2

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            culprit()

    weighted(apply(Breaks, leaf(3))).backward()


def own_hook() -> None:
    x = leaf(3)
    y = x.exp()
    y.register_hook(lambda _: culprit())
    weighted(y).backward()


def culprit() -> None:
    raise LookupError("the program's own")


@pytest.mark.parametrize("run", [own_forward, own_backward, own_hook])
def test_the_program_s_own_errors_are_as_they_were(run: Callable[[], None]) -> None:
    with pytest.raises(LookupError) as plain:
        run()
    with pytest.raises(LookupError) as watched, gw.watch() as witness:
        run()
    ends = [traceback.extract_tb(e.value.__traceback__)[-1] for e in (plain, watched)]
    assert ends[0] == ends[1]
    assert ends[0].name == "culprit"
    assert watched.value.args == plain.value.args
    assert watched.value.__cause__ is watched.value.__context__ is None
    assert not any(reason.startswith(FAILED) for reason in witness.report.reasons())


def test_arguments_that_torch_refuses_are_torch_s_to_complain_of() -> None:
    with gw.watch() as witness:
        with pytest.raises(TypeError, match=r"backward\(\) got an unexpected keyword"):
            weighted(leaf(3)).backward(nonsense=1)
        weighted(leaf(3)).backward()
    witness.require()


@pytest.mark.filterwarnings("ignore:Casting complex values to real")
def test_a_number_of_no_dimension_in_another_format() -> None:
    x: Any = torch.zeros((), dtype=torch.complex128, requires_grad=True)
    with gw.watch() as witness:
        x.float().backward()
    # d Re(x) / dx = 1, by torch's convention for real functions of complex numbers.
    assert x.grad == 1
    witness.require()


def test_once_failed_it_takes_no_other_step() -> None:
    border, ran = Border(), []

    def fails() -> None:
        ran.append("failing")
        raise Planted

    assert border.take(ran.append, "before") is None
    assert border.take(fails) is None
    assert border.take(ran.append, "after") is None
    assert border.attempt(lambda: "written") == "written"
    assert ran == ["before", "failing"]
    (said,) = border.failures
    assert said.startswith("the program's code failed when gradwitness called it: Planted at ")
