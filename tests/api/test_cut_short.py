"""A block that an exception ends is in doubt at best, and says where it ended."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture.memory.values import ValueStore
from gradwitness.judging.local import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator

X = torch.tensor([[1.0, -2.0, 0.5]])


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def cut(error: type[BaseException]) -> tuple[gw.Witness, int]:
    """Return a step that ends when the gradient of the first layer's result is on its way."""
    model = network()

    def stop(_: torch.Tensor) -> None:
        raise error

    line = inspect.getsourcelines(stop)[1] + 1
    with pytest.raises(error), gw.watch(model) as witness:  # noqa: PT012
        hidden = model[0](X)
        hidden.register_hook(stop)
        model[2](model[1](hidden)).sum().backward()
    return witness, line


ERRORS = [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError]


@pytest.mark.parametrize("error", ERRORS)
def test_a_backward_that_is_cut_short(error: type[BaseException]) -> None:
    witness, line = cut(error)
    verdicts = {row.name: row.verdict for row in witness.report.rows}
    assert verdicts == dict.fromkeys(["2.weight", "2.bias"], gw.Verdict.AGREES)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    said = (
        f"the step ended in {error.__name__} at {__file__.rpartition('/')[2]}:{line}; "
        "2 of 4 parameters got a gradient, not 0.weight and 0.bias"
    )
    assert list(witness.report.reasons()) == [said]
    (fault,) = witness.faults
    assert (fault.title, fault.line) == (said, f"{__file__}:{line}")
    with pytest.raises(gw.GradientDisagreement, match="2 of 4 parameters got a gradient"):
        witness.require()


@pytest.mark.parametrize(
    ("file", "module"),
    [
        (f"{Path(gw.__file__).parent}/engine/arithmetic.py", "gradwitness.engine.arithmetic"),
        ("/site-packages/numpy/linalg.py", "numpy.linalg"),
    ],
)
def test_a_key_that_is_pressed_while_a_step_is_judged(
    file: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program was at its own line, which is that of the step, and not at one of ours."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile("def pressed(*_): raise KeyboardInterrupt", file, "exec"), names)  # noqa: S102
    monkeypatch.setattr(Judge, "called", names["pressed"])
    w = torch.ones(3, requires_grad=True)

    def step() -> None:
        w * 2

    with pytest.raises(KeyboardInterrupt), gw.watch(names={"w": w}) as witness:
        step()
    assert witness.tape.ended is not None
    assert witness.tape.ended.line == f"{__file__}:{inspect.getsourcelines(step)[1] + 1}"


def test_a_step_that_ends_after_its_backward() -> None:
    model = network()
    with pytest.raises(ZeroDivisionError), gw.watch(model) as witness:  # noqa: PT012
        model(X).sum().backward()
        _ = 1 / 0
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert reason.endswith("4 of 4 parameters got a gradient")


def test_a_step_that_ends_before_its_backward() -> None:
    model = network()
    with pytest.raises(KeyboardInterrupt), gw.watch(model) as witness:  # noqa: PT012
        model(X)
        raise KeyboardInterrupt
    assert "0 of 4 parameters got a gradient" in str(witness)


def test_without_a_model_leaves_are_counted() -> None:
    a: Any = torch.ones(3, requires_grad=True)
    b = torch.ones(3, requires_grad=True)

    def stop(_: torch.Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), gw.watch(names={"a": a, "b": b}) as witness:  # noqa: PT012
        inner = a.sin()
        inner.register_hook(stop)
        (inner * b).sum().backward()
    (reason,) = witness.report.reasons()
    assert reason.endswith("1 of 2 parameters got a gradient, not a")


def test_a_generator_that_is_closed() -> None:
    model, witness = network(), gw.watch()

    def steps() -> Iterator[int]:
        with witness:
            model(X).sum().backward()
            yield 1

    running: Any = steps()
    next(running)
    running.close()
    assert "the step ended in GeneratorExit at test_cut_short.py:" in str(witness)


def test_a_fault_before_the_end_stays_one() -> None:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return 2 * x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return grads[0]

    half: Any = Half.apply
    model = network()
    with pytest.raises(KeyboardInterrupt), gw.watch(model) as witness:  # noqa: PT012
        half(model(X)).sum().backward()
        raise KeyboardInterrupt
    assert witness.verdict is gw.Verdict.DISAGREES


def test_the_ending_is_in_the_recording(tmp_path: Path) -> None:
    witness, _ = cut(KeyboardInterrupt)
    witness.save(tmp_path / "tape.npz")
    tape = gw.load_tape(tmp_path / "tape.npz")
    assert tape.ended == witness.tape.ended
    assert gw.judge(tape).reasons() == witness.report.reasons()


@pytest.mark.parametrize("error", ERRORS)
def test_claims_about_it_are_in_doubt(error: type[BaseException]) -> None:
    witness, _ = cut(error)
    # The loss is linear in the last layer, whose bias has gradient 1.
    found = witness.check_claims({"2.bias": np.ones(1, np.float32)})
    assert found.verdict is gw.Verdict.INCONCLUSIVE
    assert "the step ended in" in found.runs[0].rows[0].reason


@pytest.mark.parametrize("value", [1.0, 3.0])
def test_claims_about_a_recording_that_broke_off_are_in_doubt(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    names: list[Any] = []

    def fails(self: ValueStore, tensor: torch.Tensor, **options: Any) -> int:
        names.append(tensor)
        if len(names) > 30:
            raise AssertionError("planted")
        return of(self, tensor, **options)

    of = ValueStore.of
    monkeypatch.setattr(ValueStore, "of", fails)
    claims = {"2.bias": np.full(1, value, np.float32)}
    found = gw.check(model, X, claims=claims)
    assert found.verdict is gw.Verdict.INCONCLUSIVE
    assert [row.verdict for run in found.runs for row in run.rows] == [gw.Verdict.INCONCLUSIVE]
    assert "planted" in found.runs[0].rows[0].reason
