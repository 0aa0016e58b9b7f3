"""Probes find what a step's own numbers hide, say with which, and leave everything as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from architectures.workload import ZOO
from capture.functions import OwnGraph, apply
from capture.hiding import HIDING, Wavers, once
from capture.implicit import Cubic
from experiment.invoke import cli
from gradwitness.judging.probe_results import KINDS
from gradwitness.report.console import as_text
from gradwitness.report.record import dumps
from gradwitness.report.tables.probes import probe_record, probes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSES = [kind for kind in KINDS if kind != "again"]


@pytest.mark.parametrize("name", HIDING)
def test_a_hidden_fault_shows_with_its_probes_and_no_others(name: str) -> None:
    make, kinds = HIDING[name]
    torch.manual_seed(1)
    step = make()
    with gw.watch() as plain:
        step().backward()
    assert plain.verdict is not gw.Verdict.DISAGREES
    assert plain.report.wrong == ()
    found = gw.probe(step)
    assert found.report.wrong == ()
    assert found.verdict is gw.Verdict.DISAGREES
    shown = {kind for each in found.hidden.values() for kind in each}
    assert shown == set(kinds)
    text = as_text(probes(found))
    assert "fails with " in text
    assert "verdict   DISAGREES with probes" in text


@pytest.mark.parametrize("kind", PASSES)
def test_a_right_program_agrees_under_every_probe(kind: str) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(6, 4)
    found = gw.probe(lambda: model(x).square().mean(), model, passes=[kind])
    assert [one.kind for one in found.passes] == [kind]
    (one,) = found.passes
    assert one.sent
    assert one.verdict is gw.Verdict.AGREES, [(f.title, f.comparison) for f in one.findings]
    assert len(one.findings) >= 6
    assert found.verdict is gw.Verdict.AGREES


def test_corners_are_sent_to_functions_of_the_program_alone() -> None:
    torch.manual_seed(3)
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    found = gw.probe(lambda: layer(x).sin().sum(), layer)
    sent = [one.kind for one in found.passes if one.sent]
    assert sent == ["again", "random", "strided", "expanded", "moved", "moved, random"]
    text = as_text(probes(found))
    assert text.count("not sent") == 4
    assert found.verdict is gw.Verdict.AGREES


def test_a_backward_that_wavers_is_named() -> None:
    torch.manual_seed(4)
    layer = nn.Linear(3, 2)
    x, w = torch.randn(4, 3), torch.randn(4, 2)
    found = gw.probe(lambda: (apply(Wavers, layer(x)) * w).sum(), layer, passes=["again"])
    # Its bits differ by less than rounding allows: no number is wrong.
    assert found.report.verdict is gw.Verdict.AGREES
    (note,) = found.notes
    assert note.kind == "backward is not deterministic"
    assert "of weight and bias with different bits" in note.text
    assert "WaversBackward #2" in note.text
    assert note.source is not None
    assert "hiding.py" in note.source.line
    assert "NOTE       backward is not deterministic" in as_text(probes(found))


class Noisy(torch.autograd.Function):
    """y = 3 x, with random numbers in its backward."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        if grads[0].stride(0) == 0:
            raise ValueError("before it draws")
        return 3 * grads[0] * (1 + torch.rand(()))


def test_random_numbers_in_a_backward_start_where_they_did() -> None:
    found = gw.probe(once(Noisy, 3), passes=["again"])
    assert found.notes == ()
    assert found.passes[0].verdict is gw.Verdict.AGREES


def test_random_numbers_after_a_backward_are_those_of_the_program_alone() -> None:
    drawn: list[float] = []
    start = once(Noisy, 3)

    def step() -> None:
        torch.manual_seed(12)
        start().backward()  # type: ignore[no-untyped-call]
        drawn.append(torch.rand(()).item())

    step()
    gw.probe(step, passes=["random", "moved", "expanded"])
    assert len(set(drawn)) == 1
    assert len(drawn) == 3


class Stateful(nn.Module):
    """Parameters, buffers that training changes, dropout, and a module in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.4))
        self.frozen = nn.Linear(4, 4)
        self.out = nn.Linear(4, 1)
        self.frozen.requires_grad_(False).eval()
        self.body[0].weight.grad = torch.full((4, 3), 0.25)

    def forward(self, x: Any) -> Any:
        return self.out(self.frozen(self.body(x)))


def state(model: nn.Module) -> list[Any]:
    """Return everything that probing must leave alone: identities and bits."""
    tensors = [*model.parameters(), *model.buffers()]
    grads = [t.grad for t in tensors]
    held: list[Any] = [(id(t), id(t.grad), t.data_ptr(), t.requires_grad) for t in tensors]
    held += [t.detach().numpy().tobytes() for t in tensors]
    held += [None if g is None else g.numpy().tobytes() for g in grads]
    held += [part.training for part in model.modules()]
    held += [len(part._forward_pre_hooks) for part in model.modules()]
    held.append(torch.get_rng_state().numpy().tobytes())
    held.append(np.random.get_state()[1].tobytes())  # type: ignore[index]  # noqa: NPY002
    return held


def spoil(model: Stateful, error: type[BaseException] | None, when: str) -> Callable[[], Any]:
    """Return a step that changes what it can, and fails where it is told to."""
    runs = 0

    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 2

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            if error and when == "probe" and grads[0].stride(0) == 0:
                raise error("probe")
            return 2 * grads[0]

    def step() -> Any:
        nonlocal runs
        runs += 1
        np.random.rand(3)  # noqa: NPY002
        if error and runs == 2 and when == "moved":
            raise error("moved")
        loss = apply(Breaks, model(torch.randn(5, 3))).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        model.out.weight.data = torch.zeros(1, 4)
        model.train()
        model.frozen.requires_grad_(True)
        if error and when == "after":
            raise error("after")

    return step


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["probe", "moved", "after"])
def test_everything_is_as_before(
    given: bool,
    error: type[BaseException] | None,
    when: str,
) -> None:
    torch.manual_seed(5)
    model = Stateful()
    before = state(model)
    step = spoil(model, error, when)
    models = [model] if given else []
    if error is None or (error is ValueError and when == "probe"):
        found = gw.probe(step, *models)
        failed = {one.kind: one.error for one in found.passes if one.error}
        assert failed == ({} if error is None else {"expanded": "ValueError: probe"})
        if error is not None:
            assert found.verdict is gw.Verdict.INCONCLUSIVE
            assert "the backward failed: ValueError: probe" in as_text(probes(found))
    else:
        with pytest.raises(error, match=when):
            gw.probe(step, *models)
    assert state(model) == before
    assert torch._C._len_torch_function_stack() == 0
    assert torch._C._len_torch_dispatch_stack() == 0


class TakesView(torch.autograd.Function):
    """x W^T, whose gradient for W is twice what it should be; W is 0 at first, and so is that."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w = ctx.saved_tensors
        return 2 * grads[0] @ w, grads[0].t() @ x


@pytest.mark.parametrize("given", [True, False])
def test_a_view_in_a_functions_forward_is_moved_and_put_back_with_its_parameter(
    *, given: bool
) -> None:
    torch.manual_seed(1)
    model, out = nn.Linear(3, 4), nn.Parameter(torch.zeros(2, 4))
    before = [t.detach().clone() for t in (*model.parameters(), out)]
    given_models = [nn.ParameterList([*model.parameters(), out])] if given else []
    x, wanted = torch.randn(5, 3), torch.randn(5, 2)
    found = gw.probe(
        lambda: (apply(TakesView, model(x), out) - wanted).square().mean(), *given_models
    )
    assert all(map(torch.equal, before, (*model.parameters(), out)))
    assert set(found.hidden) == {"TakesViewBackward #3, gradient of x (input 0)"}


class TwoProducts(torch.autograd.Function):
    """x V^T + x W^T: with three axes, each product views x for itself."""

    @staticmethod
    def forward(ctx: Any, x: Any, v: Any, w: Any) -> Any:
        ctx.save_for_backward(x, v, w)
        return x @ v.t() + x @ w.t()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (x, v, w) = grads, ctx.saved_tensors
        product = g.flatten(0, -2).t() @ x.flatten(0, -2)
        return g @ (v + w), product, product


@pytest.mark.parametrize("shape", [(12, 3), (4, 3, 3)])
def test_a_view_of_a_result_in_a_functions_forward_is_no_leaf(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    model, z = nn.Linear(3, 4), torch.randn(shape)
    v, w = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(2, 4))
    found = gw.probe(
        lambda: apply(TwoProducts, model(z), v, w).square().sum(), passes=["moved", "moved, random"]
    )
    assert found.verdict is gw.Verdict.AGREES, found.hidden


def test_the_program_runs_as_it_would_alone() -> None:
    seen: list[list[Any]] = []

    def step() -> None:
        torch.manual_seed(6)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(6, 3)).square().mean().backward()
            optimizer.step()
        seen.append([p.detach().clone() for p in model.parameters()])

    step()
    found = gw.probe(step, passes=["again", "random", "large"])
    assert len(seen) == 2
    assert all(torch.equal(one, two) for one, two in zip(*seen, strict=True))
    assert len(found.tape.sweeps) == 3
    assert found.verdict is gw.Verdict.AGREES


def test_the_own_report_is_that_of_a_watch() -> None:
    torch.manual_seed(7)
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    with gw.watch(layer) as plain:
        layer(x).sin().sum().backward()
    layer.zero_grad()
    found = gw.probe(lambda: layer(x).sin().sum(), layer)
    assert [call.op for call in found.tape.calls] == [call.op for call in plain.tape.calls]
    assert [row.comparison for row in found.report.rows] == [
        row.comparison for row in plain.report.rows
    ]
    assert [row.digits for row in found.report.rows] == [row.digits for row in plain.report.rows]


def test_outputs_instead_of_a_loss() -> None:
    torch.manual_seed(8)
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    for outputs in (lambda: (layer(x), layer(x).sin()), lambda: {"y": layer(x)}):
        found = gw.probe(outputs, layer)
        assert found.verdict is gw.Verdict.AGREES
        assert {row.name for row in found.report.rows} == {"weight", "bias"}


def test_no_backward_at_all_is_inconclusive() -> None:
    found = gw.probe(lambda: torch.ones(3).sum())
    assert found.verdict is gw.Verdict.INCONCLUSIVE
    assert "no backward pass to repeat" in as_text(probes(found))


def test_a_pass_that_is_differentiated_again_gets_no_probes() -> None:
    x = torch.randn(3, requires_grad=True)

    def step() -> None:
        torch.autograd.grad(x.sin().sum(), x, create_graph=True)

    found = gw.probe(step)
    assert found.verdict is gw.Verdict.INCONCLUSIVE
    assert found.skipped[0].startswith("it is differentiated again")


def test_a_backward_that_runs_only_once_is_inconclusive() -> None:
    found = gw.probe(lambda: apply(OwnGraph, torch.ones(3, requires_grad=True)).sum())
    assert found.report.verdict is gw.Verdict.AGREES
    assert found.verdict is gw.Verdict.INCONCLUSIVE
    assert found.notes == ()
    failed = {one.kind for one in found.passes if "backward through the graph" in one.error}
    assert failed == set(KINDS) - {"moved"}


WEIGHT = nn.Parameter(torch.tensor([0.3, 0.7, 1.1]))


def in_a_checkpoint() -> Any:
    x = WEIGHT * 2
    return checkpoint(lambda z: (z * z).sin(), x, use_reentrant=True).sum()


def of_shared_memory() -> Any:
    # The first product has saved its operands.
    own = WEIGHT.detach().requires_grad_()
    return (WEIGHT * WEIGHT).sum() + (own * own).cos().sum()


@pytest.mark.parametrize("step", [in_a_checkpoint, of_shared_memory])
def test_leaves_that_are_made_of_numbers_in_use_are_not_moved(step: Any) -> None:
    assert gw.probe(step, names={"w": WEIGHT}, passes=["moved"]).verdict is gw.Verdict.AGREES


def test_what_is_right_along_some_directions_is_not_refuted_beside_them() -> None:
    a = torch.eye(3, dtype=torch.float64).requires_grad_()
    c = torch.arange(9, dtype=torch.float64).view(3, 3)
    probe = gw.probe(lambda: apply(Cubic, a, c), names={"a": a}, passes=["moved", "moved, random"])
    assert probe.report.verdict is gw.Verdict.INCONCLUSIVE
    assert [(p.verdict, p.wrong) for p in probe.passes] == [(gw.Verdict.INCONCLUSIVE, ())] * 2
    reasons = {f.comparison.reason for p in probe.passes for f in p.doubts}
    assert any("the probe has moved the argument off them" in reason for reason in reasons)


def test_a_parameter_that_was_read_before_it_is_moved() -> None:
    def step() -> Any:
        x = torch.ones(3, requires_grad=True)
        with torch.no_grad():
            scale = x * 2
        return (x.sin() * scale).sum()

    found = gw.probe(step, passes=["moved"])
    assert found.verdict is gw.Verdict.AGREES
    with gw.watch() as plain:
        step().backward()
    norms = [w.comparison.norm for w in (found.passes[0].findings[-1], plain.report.findings[-1])]
    assert norms[0] != norms[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gw.probe(print, passes=["rando"]), "unknown probe 'rando'; choose from: again"),
        (lambda: gw.probe(torch.ones(1)), "probe needs a function .* not Tensor"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(gw.InputError, match=message):
        call()


def test_the_seed_chooses_the_probes() -> None:
    torch.manual_seed(9)
    step = once(Wavers, 3)

    def first(seed: int) -> Any:
        found = gw.probe(step, passes=["random"], seed=seed)
        return found.passes[0].findings[-1].comparison.norm

    assert first(1) == first(1) != first(2)


@pytest.mark.parametrize("name", ["mlp", "residual", "lstm", "encoder"])
def test_real_architectures_agree_under_probes(name: str) -> None:
    import architectures.zoo  # noqa: F401 (fills the table)

    torch.manual_seed(10)
    workload = ZOO[name]()
    found = gw.probe(workload.loss, workload.model)
    assert found.verdict is gw.Verdict.AGREES, as_text(probes(found))
    judged = [len(one.findings) for one in found.passes if one.sent and one.kind != "again"]
    assert min(judged) > 5


def test_as_data() -> None:
    torch.manual_seed(11)
    make, _ = HIDING["order_in_memory"]
    record = json.loads(dumps(probe_record(gw.probe(make()))))
    assert record["exit_code"] == 1
    kinds = {one["kind"]: one for one in record["passes"]}
    assert list(kinds) == list(KINDS)
    assert kinds["strided"]["verdict"] == "DISAGREES"
    assert kinds["strided"]["wrong"][0]["title"] in record["hidden"]
    assert kinds["random"]["wrong"] == []


PROGRAM = """
import torch
from capture.hiding import HIDING, Wavers, once

def step():
    torch.manual_seed(0)
    HIDING["scale_of_one"][0]()().backward()

def right():
    x = torch.randn(3, requires_grad=True)
    x.sin().sum().backward()

def crash():
    right()
    raise ValueError("on its own")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "probed_program.py"
    path.write_text(PROGRAM)
    return path


def test_on_the_command_line(program: Path) -> None:
    assert cli("check", f"{program}:step").code == 0
    result = cli("check", f"{program}:step", "--probe")
    assert result.code == 1
    assert "fails with moved; moved, random, but not in the program's own pass" in result.out
    record = json.loads(cli("check", f"{program}:step", "--probe", "--json").out)
    # The exit code that the command ends with, beside the judgement of the program's own pass.
    assert (record["exit_code"], record["probe"]["exit_code"]) == (1, 1)
    assert cli("check", f"{program}:right", "--probe").code == 0


def test_the_command_on_what_cannot_be_probed(program: Path, tmp_path: Path) -> None:
    failed = cli("check", f"{program}:crash", "--probe")
    assert failed.code == 2
    assert "ValueError: on its own" in failed.err
    cli("check", f"{program}:right", "--save", tmp_path / "t.npz")
    taped = cli("check", tmp_path / "t.npz", "--probe")
    assert taped.code == 2
    assert "a recording cannot be probed" in taped.err
