"""Complex numbers from one end to the other: recorded, judged, shown, saved, probed, claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness import InputError
from gradwitness.api.claims import judge_claims
from gradwitness.capture.again.probing import COTANGENTS, _is_plain
from gradwitness.engine.monte_carlo import _Noise, spread
from gradwitness.engine.replay import replay
from gradwitness.files.dat import format_dat
from gradwitness.report.explain import explain
from gradwitness.report.trace import trace
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

LENGTH = 8


class Filter(nn.Module):
    """A spectrum with complex weights between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(LENGTH, LENGTH), nn.Linear(LENGTH, 1)
        self.weight = nn.Parameter(torch.randn(LENGTH // 2 + 1, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(torch.tanh(self.before(x)))
        made: Tensor = self.after(torch.fft.irfft(spectrum * self.weight.conj(), n=LENGTH))
        return made


def program(seed: int = 0) -> tuple[Filter, Callable[[], None]]:
    torch.manual_seed(seed)
    model, x = Filter(), torch.randn(3, LENGTH)

    def step() -> None:
        model.zero_grad()
        torch.autograd.backward((model(x) - 1).square().mean())

    return model, step


def watched(run: Callable[[], Any], *models: nn.Module, **named: Tensor) -> gw.Witness:
    torch.manual_seed(1)
    with gw.watch(*models, names=named, keep=None) as witness:
        run()
    return witness


def judged(run: Callable[[], Tensor], **named: Tensor) -> gw.Witness:
    return watched(lambda: torch.autograd.backward(run()), **named)


def leaf(*shape: int, dtype: torch.dtype = torch.cfloat) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def confirmed(witness: gw.Witness) -> None:
    """All is judged and agrees, and the replay says so too."""
    assert dict(witness.report.reasons()) == {}
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert witness.report.rows
    assert all(row.digits > 5 for row in witness.report.rows)


# What is complex by memory: lazy conjugates, views of the parts, writes through either.


def test_lazy_conjugates_and_negatives_are_judged_and_replayed() -> None:
    z = leaf(3, 4)

    def run() -> Tensor:
        turned = z.conj().T
        product = turned @ z.detach()
        return (product.imag * 2 + turned.conj().T.conj()[0].imag.sum()).sum() + z.mH.abs().sum()

    confirmed(judged(run, z=z))


def test_a_conjugate_is_another_value_than_what_it_is_a_view_of() -> None:
    z = leaf(3)

    def run() -> Tensor:
        # The same memory, shape and format: only a bit tells them apart.
        other = z.conj()
        return (z * 2 + other * 3).real.sum() + (other * other.detach()).imag.sum()

    witness = judged(run, z=z)
    confirmed(witness)
    values = {v.id: v for v in witness.tape.values}
    (call,) = (c for c in witness.tape.calls if c.op.startswith("aten._conj.") and c.during is None)
    made, source = values[call.outputs[0] or 0], values[references(call.arguments["self"])[0]]
    assert made.layout is None
    assert np.array_equal(np.asarray(made.array), np.conj(np.asarray(source.array)))


@pytest.mark.parametrize(
    "write",
    [
        lambda y: torch.view_as_real(y)[:, 0].mul_(3),
        lambda y: y.imag.add_(torch.ones(3)),
        lambda y: y[1:].mul_(2 - 1j),
        lambda y: y.mul_(1j),
    ],
    ids=["first parts", "imaginary parts", "a slice", "all"],
)
def test_writing_into_complex_numbers_is_judged_and_replayed(write: Any) -> None:
    z = leaf(3)

    def run() -> Tensor:
        y = z * 1
        write(y)
        return (y * y).real.sum() + y.abs().sum()

    confirmed(judged(run, z=z))


def test_writing_to_real_numbers_through_a_complex_view() -> None:
    x = leaf(3, 2, dtype=torch.float32)

    def run() -> Tensor:
        y = x * 1
        torch.view_as_complex(y)[:2].mul_(2 + 3j)
        return (y**2).sum()

    confirmed(judged(run, x=x))


@pytest.mark.parametrize("dtype", [torch.cfloat, torch.cdouble])
def test_real_operands_get_the_real_part(dtype: torch.dtype) -> None:
    x, z = leaf(4, 1, dtype=torch.float64), leaf(3, dtype=dtype)
    witness = judged(
        lambda: (x * z + x.to(dtype) / (2 + z)).abs().sum() + (x + z).angle().sum(), x=x, z=z
    )
    confirmed(witness)
    gradient = {row.name: row for row in witness.report.rows}["x"]
    assert gradient.dtype == "float64"


def test_a_lazy_view_is_replayed_from_what_it_is_a_view_of() -> None:
    z = leaf(3)
    tape = judged(lambda: z.conj().imag.sum(), z=z).tape
    (source,) = (v for v in tape.values if v.name == "z" and v.requires_grad)
    other: Any = np.asarray(source.array, np.complex128) * 1j
    found = replay(tape, {source.id: other}).values
    calls = {c.op.split(".")[1]: c.outputs[0] for c in reversed(tape.calls)}
    # imag conjugates once more, and negates: the first of both is asked for.
    np.testing.assert_array_equal(found[calls["_conj"] or 0], np.conj(other))
    np.testing.assert_array_equal(found[calls["_neg_view"] or 0][..., 1], np.conj(other).imag)


def test_a_formula_is_shown_as_it_is_of_complex_numbers() -> None:
    z, w = leaf(3), leaf(3)
    complex_ = judged(lambda: (z * w).abs().sum(), z=z, w=w)
    (mul,) = (f for f in complex_.report.findings if f.title.endswith("gradient of a"))
    assert mul.formula == "da = conj(conj(g) * b)"
    assert "conj(conj(g) * w)" in explain(complex_.tape, complex_.report)
    real = judged(lambda: (z.real * w.real).sum(), z=z, w=w)
    (mul,) = (f for f in real.report.findings if f.title.endswith("gradient of a"))
    assert mul.formula == "da = g * b"


# Wrong gradients, and what cannot be judged.


def test_a_hook_that_conjugates_is_found_and_the_numbers_are_shown() -> None:
    model, step = program()
    weight: Any = model.weight
    weight.register_hook(lambda g: g.conj())
    witness = watched(step, model)
    assert witness.verdict is gw.Verdict.DISAGREES
    (row,) = (row for row in witness.report.rows if row.verdict is gw.Verdict.DISAGREES)
    assert row.name == "weight"
    c = row.comparison
    assert c.recorded == pytest.approx(np.conj(c.expected), rel=1e-5)
    assert f"torch has {c.recorded:.9g}" in str(witness)


def test_a_gradient_that_is_cut_off_behind_a_spectrum_is_cut_off_there() -> None:
    model = nn.ParameterList([torch.randn(4), torch.randn(3)])
    lost, kept = model

    def run() -> None:
        spectrum = torch.fft.rfft(lost)
        torch.autograd.backward((spectrum.abs().detach() * kept).sum())

    (note,) = watched(run, model).report.notes
    assert note.kind == "parameters cut off"
    assert "detach" in note.text


@pytest.mark.parametrize(
    "name",
    [
        "exp", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "sin",
        "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "sigmoid", "sinc", "sgn", "square",
    ],
)  # fmt: skip
def test_elementary_functions_are_judged_and_agree(name: str) -> None:
    z = leaf(20)
    confirmed(judged(lambda: (getattr(torch, name)(z) * (1 - 2j)).real.sum(), z=z))


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (
            lambda z: (z * torch.nan_to_num(z.detach())).abs().sum(),
            "no rule for complex numbers: aten.nan_to_num.default",
        ),
    ],
)
def test_what_has_no_rule_is_left_open(run: Any, reason: str) -> None:
    z = leaf(3)
    witness = judged(lambda: run(z), z=z)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert witness.report.wrong == ()
    assert any(reason in said for said in witness.report.reasons())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
def test_parts_of_16_bits_are_judged(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    z = torch.randn(20, dtype=torch.cfloat, requires_grad=True)

    def run() -> Any:
        half = z.to(torch.complex32)
        return (half * half.conj() * half - 2 * half).abs().float().square().sum()

    witness = judged(run, z=z)
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    witness.save(tmp_path / "tape.npz")
    assert gw.judge(gw.load_tape(tmp_path / "tape.npz")).rows == witness.report.rows
    # A unit in the last place is 2^-10, and a product of three rounds some times.
    (number,) = next(c.outputs for c in witness.tape.calls[::-1] if c.op.startswith("aten.mul"))
    values = list(witness.tape.values)
    array: Any = np.array(values[number or 0].array)
    array[3] *= 1 + 2.0**-6
    values[number or 0] = replace(values[number or 0], array=array)
    assert gw.judge(replace(witness.tape, values=values)).wrong


# What is made of a judgement.


def test_a_tape_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    z = leaf(3)
    witness = judged(
        lambda: (z * (1 - 2.5j) + z.conj()).abs().sum() + (z.sub(1j, alpha=2j)).real.sum(), z=z
    )
    confirmed(witness)
    witness.save(tmp_path / "tape.npz")
    tape = gw.load_tape(tmp_path / "tape.npz")
    assert tape.calls == witness.tape.calls
    assert any(isinstance(a, complex) for c in tape.calls for a in c.arguments.values())
    for ours, theirs in zip(tape.values, witness.tape.values, strict=True):
        assert (ours.dtype, ours.layout, ours.shape) == (theirs.dtype, theirs.layout, theirs.shape)
        assert np.asarray(ours.array).tobytes() == np.asarray(theirs.array).tobytes()
    assert gw.judge(tape).rows == witness.report.rows


def test_reports_hold_both_parts(tmp_path: Path) -> None:
    model, step = program()
    witness = watched(step, model)
    assert witness.report.notes == ()
    for ending in ("txt", "svg", "dot", "json"):
        witness.save(tmp_path / f"report.{ending}")
    record = json.loads((tmp_path / "report.json").read_text())
    (row,) = (row for row in record["gradients"] if row["name"] == "weight")
    c = next(row for row in witness.report.rows if row.name == "weight").comparison
    assert row["recorded"] == [c.recorded.real, c.recorded.imag]
    assert row["dtype"] == "complex64"


def test_one_entry_is_followed_up_to_the_first_complex_number() -> None:
    model, step = program()
    witness = watched(step, model)
    text = trace(witness.tape, witness.report, "weight[1]")
    assert f"torch has {model.weight.grad[1].item():.9g}" in text  # type: ignore[index]
    assert "not written out: complex gradients are not split into terms" in text
    assert "complex" not in trace(witness.tape, witness.report, "after.weight[0,1]").split("#")[0]


def test_probes_go_through_complex_nodes_and_move_complex_parameters() -> None:
    model, step = program()
    before = model.weight.detach().clone()
    found = gw.probe(step, model)
    assert found.verdict is gw.Verdict.AGREES
    assert torch.equal(model.weight, before)
    moved = next(each for each in found.passes if each.kind == "moved")
    (weight,) = (v for v in moved.tape.values if v.name == "weight" and v.requires_grad)
    assert not np.any(np.asarray(weight.array).real == before.numpy().real)
    assert not np.any(np.asarray(weight.array).imag == before.numpy().imag)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_stochastic_arithmetic_moves_both_parts(dtype: str) -> None:
    z, w = leaf(500), leaf(500)
    witness = judged(lambda: (z * w).real.sum(), z=z, w=w)
    (row,) = (row for row in witness.report.rows if row.name == "z")
    input_nrs = ((row.sweep, row.node, row.input_nr),)
    found = spread(witness.tape, replay(witness.tape), [input_nrs], dtype)
    u = 2.0 ** -(52 if dtype == "float64" else 24)
    size = np.abs(found.references[input_nrs])
    # Three roundings in a product, moved by four times as much.
    assert np.all(found.squares[input_nrs] > 0)
    assert np.all(found.farthest[input_nrs] <= 3 * 4 * u * size * 1.1)
    assert np.all(found.allowance(input_nrs) < 200 * u * np.max(size))
    moved = found.references[input_nrs] - np.conj(np.asarray(w.detach(), np.complex128))
    assert not moved.any()


def test_a_movement_is_of_one_size_in_both_parts() -> None:
    noise = _Noise(np.random.default_rng(0), "float32", 4.0)
    moved = noise._move(np.full(4000, 1 + 1j), np.full(4000, 1e-3)) - (1 + 1j)
    # Uniform within 4e-3 / sqrt 2 in each part.
    for part in (moved.real, moved.imag):
        assert np.std(part) == pytest.approx(4e-3 / np.sqrt(6), rel=0.05)


def test_gradients_that_a_probe_sends_are_complex_where_those_it_replaces_are() -> None:
    like = torch.zeros(4, dtype=torch.cfloat)
    assert _is_plain(like)
    for make in COTANGENTS.values():
        assert make(like, torch.Generator().manual_seed(0)).dtype is torch.cfloat
    assert COTANGENTS["random"](like, torch.Generator().manual_seed(0)).imag.all()


# Gradients from elsewhere.


def claims(model: Filter, *, real: bool = True) -> dict[str, Any]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: (g.real if real else g.resolve_conj()).numpy() for name, g in found.items()}


def test_claims_of_real_parameters_are_judged_through_complex_steps() -> None:
    model, step = program()
    witness = watched(step, model)
    given = {name: g for name, g in claims(model).items() if name != "weight"}
    (report,) = judge_claims(witness.tape, witness.report, given).runs
    assert [row.verdict for row in report.rows] == [gw.Verdict.AGREES] * 4
    assert report.unclaimed == ("weight",)
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    given = claims(model)
    given["before.weight"] = 2 * given["before.weight"]
    (report,) = judge_claims(witness.tape, witness.report, given).runs
    assert [row.name for row in report.wrong] == ["before.weight"]
    assert report.causes
    assert any("complex numbers" in note for note in report.notes)


def test_a_complex_gradient_cannot_be_claimed() -> None:
    model, step = program()
    witness = watched(step, model)
    with pytest.raises(InputError, match="weight: unsupported dtype complex64"):
        judge_claims(witness.tape, witness.report, claims(model, real=False))
    (report,) = judge_claims(witness.tape, witness.report, claims(model)).runs
    (row,) = (row for row in report.rows if row.name == "weight")
    assert row.verdict is gw.Verdict.INCONCLUSIVE
    assert row.reason == "real numbers (float32) where complex ones are expected"
    with pytest.raises(InputError, match="tensor 'a': unsupported dtype complex64"):
        format_dat({}, {"a": np.ones(2, np.complex64)})


def test_gradcheck_measures_slopes_of_complex_results() -> None:
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert gw.gradcheck(torch.fft.rfft, (x,))

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:  # noqa: ARG004
            return torch.fft.fft(x)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: ARG004
            return torch.fft.fft(grads[0]).real

    with pytest.raises(gw.GradientDisagreement):
        gw.gradcheck(Wrong.apply, (x,))
    z = torch.randn(6, dtype=torch.complex128, requires_grad=True)
    assert gw.gradcheck(lambda z: torch.fft.ifft(z * z.conj()).abs(), (z,))
