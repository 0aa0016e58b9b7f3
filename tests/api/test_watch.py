"""The context manager that users write around their training code."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.programs import leaf, unruled, weighted

if TYPE_CHECKING:
    from pathlib import Path


class Doubled(torch.autograd.Function):
    """x, with twice the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return 2 * grads[0]


def doubled(x: Any) -> Any:
    apply: Any = Doubled.apply
    return apply(x)


def right() -> gw.Witness:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with gw.watch(model) as witness:
        weighted(model(torch.randn(2, 3))).backward()
    return witness


def wrong() -> gw.Witness:
    torch.manual_seed(0)
    before, after = leaf(3), leaf(3)
    with gw.watch(names={"before": before, "after": after}) as witness:
        weighted(doubled(before.sin()) * after).backward()
    return witness


def test_agreement() -> None:
    witness = right()
    assert witness.verdict is gw.Verdict.AGREES
    witness.require()
    lines = str(witness).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert lines[-1] == "verdict   AGREES"


def test_disagreement_is_raised_with_the_whole_report() -> None:
    witness = wrong()
    assert witness.verdict is gw.Verdict.DISAGREES
    verdicts = {row.name: row.verdict for row in witness.report.rows}
    assert verdicts == {"before": gw.Verdict.DISAGREES, "after": gw.Verdict.AGREES}
    with pytest.raises(gw.GradientDisagreement, match=r"(?s)^DISAGREES\n.*DoubledBackward #") as e:
        witness.require()
    assert str(witness) in str(e.value)


def test_what_could_not_be_judged_does_not_pass() -> None:
    with gw.watch() as witness:
        weighted(unruled(leaf(3))).backward()
    with pytest.raises(gw.GradientDisagreement, match=r"^INCONCLUSIVE\n"):
        witness.require()


def test_no_backward_is_no_agreement() -> None:
    with gw.watch() as witness:
        torch.ones(2) * 2
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert "No gradient was recorded: nothing ran backward." in str(witness)


def test_what_other_threads_run_is_told_to_be_unseen() -> None:
    def step() -> None:
        weighted(leaf(3).sin()).backward()

    with gw.watch() as witness:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert "No operation was recorded either; other threads are not watched." in str(witness)


def test_a_block_that_raises_at_once_says_nothing_of_threads() -> None:
    watched = gw.watch()
    with pytest.raises(ZeroDivisionError), watched as witness:
        raise ZeroDivisionError
    assert "ended in ZeroDivisionError" in str(witness)
    assert "threads" not in str(witness)


def test_a_grad_that_another_thread_left_is_told_from_that_of_the_pass() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def step() -> None:
        weighted(model(torch.ones(4, 3))).backward()

    with gw.watch(model) as witness:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        step()
    lines = [line.split("  ")[0] for line in str(witness).splitlines()[1:5]]
    assert lines == ["weight", "bias", "bias (.grad at the end)", "weight (.grad at the end)"]


def test_digits_of_what_was_not_compared_are_not_told() -> None:
    parameter = nn.Parameter(torch.linspace(1, 2, 3))
    made: list[Any] = []

    def elsewhere() -> None:
        made.append(parameter.exp())

    with gw.watch(names={"p": parameter}) as witness:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        weighted(made[0]).backward()
    (row,) = witness.report.rows
    assert row.verdict is gw.Verdict.INCONCLUSIVE
    assert math.isnan(row.digits)


def test_threads_that_watch_at_once_do_not_disturb_each_other() -> None:
    def work(model: Any, started: Any) -> gw.Witness:
        x = torch.ones(4, 3)
        with gw.watch() as witness:
            started.wait()
            for _ in range(5):
                weighted(model(x)).backward()
        return witness

    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    started = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        witnesses = list(pool.map(work, models, [started, started]))
    for witness in witnesses:
        assert witness.verdict is gw.Verdict.AGREES
        assert {row.name for row in witness.report.rows} == {"weight", "bias"}
        assert len(witness.tape.parameters) == 2
        assert {c.source.module for c in witness.tape.calls if "addmm" in c.op} == {"Linear"}


@pytest.mark.parametrize("model", ["model", None, 3, [torch.nn.Linear(1, 1)]])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(gw.InputError, match=r"watch takes models \(torch\.nn\.Module\), not "):
        gw.watch(model)


def test_what_is_no_tensor_gets_no_name() -> None:
    with pytest.raises(gw.InputError, match="'x' must name a tensor, not int 3"):
        gw.watch(names={"x": 3})  # type: ignore[dict-item]


def test_a_witness_watches_one_block() -> None:
    witness = gw.watch()
    with witness:
        weighted(leaf(3).sin()).backward()
    with pytest.raises(gw.InputError, match="make another with gradwitness"), witness:
        pass
    assert witness.verdict is gw.Verdict.AGREES


def test_nothing_can_be_asked_before_the_end() -> None:
    with gw.watch() as witness:
        assert str(witness) == "there is no verdict before the watched block has ended."
        with pytest.raises(gw.GradwitnessError, match="no verdict before the watched block has en"):
            _ = witness.verdict
        with pytest.raises(gw.CaptureError, match="the recording is not ready before"):
            _ = witness.tape
    assert witness.tape.calls == ()


def test_the_verdict_is_that_of_the_time() -> None:
    x = leaf(3)
    with gw.watch(names={"x": x}) as witness:
        weighted(x.sin()).backward()
    shown = str(witness)
    with torch.no_grad():
        x.fill_(0)
        x.grad.fill_(0)
    assert str(witness) == shown
    assert gw.judge(witness.tape).verdict is gw.Verdict.AGREES


def test_it_is_judged_before_the_program_goes_on() -> None:
    x = leaf(3)
    with gw.watch() as witness:
        y = x.sin()
        weighted(y).backward()
    with torch.no_grad():
        y.fill_(7)
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("ending", ["txt", "json", "svg", "dot", "pdf", "png", "npz"])
def test_saving(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"made.{ending}"
    witness = wrong()
    witness.save(str(path))
    content = path.read_bytes()
    if ending == "txt":
        assert content.decode() == str(witness)
    elif ending == "json":
        assert json.loads(content)["verdict"] == "DISAGREES"
    elif ending == "npz":
        again, first = gw.judge(gw.load_tape(path)).first_wrong, witness.report.first_wrong
        assert again is not None
        assert first is not None
        # Names of arguments are in the program's text, which a recording does not hold.
        assert again.title == first.title.replace("x (input 0)", "input 0")
        assert str(again.comparison) == str(first.comparison)
    elif ending in ("svg", "dot"):
        assert "DoubledBackward #" in content.decode()
    else:
        assert content[:4] == {"pdf": b"%PDF", "png": b"\x89PNG"}[ending]


def test_an_unknown_ending_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        gw.InputError, match=r"unsupported extension '\.gif'; use \.txt, \.json, \.sarif, \.html"
    ):
        right().save(tmp_path / "made.gif")
    assert list(tmp_path.iterdir()) == []


def test_saved_tensors_appear_when_asked_for() -> None:
    x = leaf(2)
    with gw.watch(names={"x": x}, saved=True) as witness:
        weighted(x.sin()).backward()
    (sine,) = [node for node in witness.tape.nodes if node.name == "SinBackward0"]
    assert [name for name, _ in sine.saved] == ["self"]


def test_time_is_accounted_for() -> None:
    witness = right()
    assert 0 < witness.overhead < 1
    assert witness.seconds > 0
