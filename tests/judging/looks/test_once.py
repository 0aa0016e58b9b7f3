"""Steps that round once, held against their own format bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import CLOSE
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.finding import Step
from gradwitness.judging.looks import once
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.whole import Whole
from gradwitness.tape import Value
from judging.looks.test_fast import changed, found, place_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Tape

# Of each the gradients that are rounded once, by their names; those of summands are handed on.
STEPS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], set[str]]] = {
    "abs": (lambda a, b: a.abs() * b, {"a", "b"}),
    "add": (lambda a, b: (a + b) * b, {"a", "b"}),
    "div": (lambda a, b: a / b, {"a"}),
    "mul": (lambda a, b: a * b, {"a", "b"}),
    "mul_": (lambda a, b: (a * 1.1).mul_(b), {"a", "b"}),
    "neg": (lambda a, b: -a * b, {"x", "a", "b"}),
    "relu": (lambda a, b: torch.relu(a) * b, {"x", "a", "b"}),
    "rsub": (lambda a, b: (3.7 - a) * b, {"a", "b"}),
    "sub": (lambda a, b: a - b, {"b"}),
}


def taped(step: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float32) -> Tape:
    torch.manual_seed(0)
    a, b = (torch.randn(40, 50, dtype=dtype, requires_grad=True) for _ in range(2))
    with record() as recorder:
        torch.autograd.backward(step(a, b).tanh().sum())
    return recorder.tape


def judged(tape: Tape, step: Step) -> list[Finding]:
    return [f for f in gw.judge(tape, depth="fast").findings if f.step is step]


def is_once(finding: Finding) -> bool:
    """Whether an agreement is that of a rounding of 2^-24 (and one of float64's) of each number."""
    unit = 2.0**-24 + 2.0**-53
    c = finding.comparison
    return (
        not c.reason and c.error == 0 and c.detects_relative == pytest.approx(2 * unit, rel=1e-12)
    )


@pytest.mark.parametrize("name", STEPS)
def test_results_and_gradients_of_one_rounding_agree_to_the_bit(name: str) -> None:
    step, names = STEPS[name]
    tape = taped(step)
    forward = {f.title.split(".")[1]: f for f in judged(tape, Step.FORWARD)}
    assert is_once(forward[name])
    assert forward["tanh"].comparison.reason == CLOSE
    assert not is_once(forward["tanh"])
    sent = [f for f in judged(tape, Step.BACKWARD) if is_once(f)]
    assert {f.title.rpartition(" ")[2] for f in sent} >= names


def test_an_error_of_any_number_beyond_its_rounding_is_refuted() -> None:
    for name, (step, _) in STEPS.items():
        tape = taped(step)
        once = [f for f in gw.judge(tape, depth="fast").findings if is_once(f)]
        came = {n for run in tape.sweeps[0].node_runs for n in run.incoming}
        steps = [f for f in once if f.step in (Step.FORWARD, Step.BACKWARD)]
        # (What torch sends on as it came in cannot be changed apart from that.)
        steps = [f for f in steps if f.step is Step.FORWARD or value_of(tape, f) not in came]
        assert steps
        for finding in steps:
            array: Any = tape.values[value_of(tape, finding)].array
            for place in (0, 777, array.size - 1):
                wrong = np.ascontiguousarray(array).copy()
                size = np.float32(1.01 * finding.comparison.detects + np.spacing(wrong.max()))
                wrong.reshape(-1)[place] += size
                # (Its bound is as wide where a step before it rounds once as well.)
                assert found(tape, finding, wrong, float(size)), (name, finding.title)


def test_a_sum_of_two_gradients_agrees_to_the_bit() -> None:
    tape = taped(lambda a, b: a.tanh() * b + a.sin())
    (finding,) = (f for f in judged(tape, Step.FAN_IN) if is_once(f))
    (run,) = (r for r in tape.sweeps[0].node_runs if r.node == finding.node)
    number = run.incoming[0]
    assert number is not None
    wrong = np.array(tape.values[number].array)
    wrong[3, 3] += 2e-6 * np.abs(wrong).max()
    now = judged(changed(tape, number, wrong), Step.FAN_IN)
    (again,) = (f for f in now if place_of(f) == place_of(finding))
    assert again.verdict is gw.Verdict.DISAGREES


def test_a_sum_of_three_gradients_counts_what_is_rounded_on_the_way() -> None:
    tape = taped(lambda a, b: a.tanh() * b + a.sin() + a.cos())
    (run,) = (r for r in tape.sweeps[0].node_runs if tape.nodes[r.node].leaf == 0)
    sent = [
        n
        for r in tape.sweeps[0].node_runs
        for edge, n in zip(tape.nodes[r.node].edges, r.outgoing, strict=True)
        if edge is not None and edge.node == run.node
    ]
    terms = [np.array(tape.values[n or 0].array) for n in sent]
    exact = sum(term.astype(np.float64) for term in terms)
    number = run.incoming[0] or 0
    total: Any = tape.values[number].array
    off = np.abs(total - exact).max()
    (finding,) = (f for f in judged(tape, Step.FAN_IN) if f.node == run.node)
    largest = np.abs(total).max() + np.abs(terms[0] + terms[1]).max()
    assert not finding.comparison.reason
    assert finding.comparison.detects == pytest.approx(2 * 2.0**-24 * largest, rel=1e-6)
    assert 0 < off < finding.comparison.detects / 2
    wrong = total.copy()
    wrong[7, 7] += 1.1 * finding.comparison.detects
    now = judged(changed(tape, number, wrong), Step.FAN_IN)
    (again,) = (f for f in now if place_of(f) == place_of(finding))
    hides = again.comparison.detects >= np.abs(wrong - total).max()
    assert again.verdict is gw.Verdict.DISAGREES or hides


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_large_sum_is_the_same_however_it_lies(axes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((40, 30, 50)).astype(np.float32) for _ in range(4)]
    # Half way, one place comes to more than the whole sum does anywhere.
    arrays[0][39, 29, 49], arrays[2][39, 29, 49] = 100, -100
    one, two = arrays[0] + arrays[1], arrays[0] + arrays[1] + arrays[2]
    total = two + arrays[3]
    before = sum(float(np.abs(part.astype(np.float64)).max()) for part in (one, two))

    def value(array: Any) -> Value:
        array = array.transpose(axes)
        return Value(0, array.shape, "float32", array)

    def norm(value: Value) -> float:
        numbers: Any = value.array
        return norm_of(numbers)

    terms = [*map(value, arrays)]
    looked = once.sum_once(value(total), terms, norm)
    assert looked is not None
    largest = float(np.abs(total).max())
    assert looked.detects == pytest.approx(2 * 2.0**-24 * (largest + before), rel=1e-6)
    for place in (0, 20_000, -1):
        wrong = total.copy()
        wrong.flat[place] = np.nextafter(wrong.flat[place], np.float32(np.inf))
        assert once.sum_once(value(wrong), terms, norm) is None


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_gradients_of_a_few_roundings_are_no_further_off_than_these(name: str) -> None:
    roundings, sent = once._FEW[f"aten.{name}"]
    random = np.random.default_rng(0)
    g, x = (random.standard_normal(10**5).astype(np.float32) for _ in range(2))
    y: Any = np.tanh(3 * x) if name == "tanh" else 1 / (1 + np.exp(-9 * x))
    wide_g, wide_y = g.astype(np.longdouble), y.astype(np.longdouble)
    right = wide_g * (1 - wide_y**2 if name == "tanh" else wide_y * (1 - wide_y))
    off = np.abs(sent(g, y) - right)
    usual = np.abs(right) > 2.0**-100
    most = (off[usual] / np.abs(right[usual])).max() * 2.0**24
    assert roundings - 1 < most < roundings

    tape = taped(lambda a, b: getattr(torch, name)(a) * b)
    named = tape.nodes
    (*_, run) = (r for r in tape.sweeps[0].node_runs if named[r.node].name.lower().startswith(name))
    number = run.outgoing[0] or 0
    call = tape.calls[tape.nodes[run.node].call or 0]
    came, made = (np.array(tape.values[n or 0].array) for n in (run.incoming[0], call.outputs[0]))
    now = changed(tape, number, sent(came, made))
    (finding,) = (f for f in judged(now, Step.BACKWARD) if f.node == run.node)
    c = finding.comparison
    assert (c.verdict, c.reason, c.error) == (gw.Verdict.AGREES, "", 0)
    assert c.detects_relative == pytest.approx(2 * roundings * 2.0**-24, rel=1e-6)
    for place in (0, 777, 1999):
        wrong = sent(came, made)
        wrong.reshape(-1)[place] += np.float32(3 * c.detects)
        assert found(now, finding, wrong, 3 * c.detects)


@pytest.mark.parametrize(
    ("step", "dtype"),
    [
        (lambda a, b: torch.add(a, b, alpha=3), torch.float32),
        (lambda a, b: a * b[:1], torch.bfloat16),
        (lambda a, b: a + b, torch.float64),
        (lambda a, b: torch.where(a > 0, 0, 0) * b, torch.float32),
        (lambda a, b: a * 1e-36 * b, torch.float32),
        (lambda a, b: a * 1e38 * b, torch.float32),
    ],
    ids=["factor", "16 bits", "float64", "zeros", "underflow", "overflow"],
)
def test_what_rounds_more_often_or_not_as_usual_is_left(
    step: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    tape = taped(step, dtype)
    looks = Whole(tape, Records(tape))
    calls = [c for c in tape.calls if c.base_op in ("aten.add", "aten.mul")]
    with np.errstate(over="ignore"):
        looked = looks.results(calls[-1])
    for _, comparison in looked or ():
        assert comparison.detects_relative > 2.0**-22


def test_only_that_gradient_is_rounded_once_whose_operand_is_not_repeated() -> None:
    tape = taped(lambda a, b: a * b[:1])
    sent = [f for f in judged(tape, Step.BACKWARD) if f.title.startswith("MulBackward")]
    assert [is_once(f) for f in sent] == [True, False]
