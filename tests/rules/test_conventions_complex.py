"""Complex numbers at 0 and on the negative axis, and what torch makes of magnitudes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness._errors import Unjudgeable
from rules.harness import make
from rules.samples import Draw, Sample, aten
from rules.sampling import Planar

NAN = float("nan")


class Given(Draw):
    """Complex numbers that are given, not drawn."""

    def __init__(self, *numbers: complex) -> None:
        super().__init__((len(numbers),))
        object.__setattr__(self, "numbers", numbers)

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array(self.__dict__["numbers"], dtype=np.complex128)


EDGES = (0, 0.0 + 3j, -2 + 0j, 3 - 4j)


@pytest.mark.parametrize(
    ("op", "values", "gradients"),
    [
        (aten.abs.default, [0, 3, 2, 5], [0, 1j, -1, 0.6 - 0.8j]),
        (aten.angle.default, [0, np.pi / 2, np.pi, -np.arctan2(4, 3)], [0, -1 / 3, -0.5j, None]),
        (aten.sgn.default, [0, 1j, -1, 0.6 - 0.8j], [0, 1 / 3, 0.5j, None]),
    ],
)
def test_values_and_gradients_at_edges(op: Any, values: Any, gradients: Any) -> None:
    case = make(Sample(op, (Given(*EDGES),)))
    np.testing.assert_allclose(case.value().value, values, rtol=1e-15)
    np.testing.assert_allclose(case.result, values, rtol=1e-15)
    ones = [torch.full_like(g, 1 + 1j if g.is_complex() else 1) for g in case.gs if g is not None]
    case = replace(case, gs=tuple(ones))
    ours, theirs = case.gradient("x"), case.torch_gradient("x")
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    for found, wanted in zip(ours, gradients, strict=True):
        assert wanted is None or found == pytest.approx(wanted)


def polar(size: float) -> gw.Report:
    """The gradient of the real and imaginary parts' sum, at a right angle between them."""
    mag, phase = torch.tensor([size], requires_grad=True), torch.tensor([0.25], requires_grad=True)
    with gw.watch(names={"size": mag, "phase": phase}) as witness:
        torch.autograd.backward(torch.view_as_real(torch.polar(mag, phase)).sum())
    return witness.report


def test_torch_takes_the_gradient_of_a_magnitude_for_0_at_0_and_for_its_negative_below() -> None:
    """The rule has the derivative of size * e^(i phase): there is no kink at 0."""
    assert polar(0.5).verdict is gw.Verdict.AGREES
    for size, sign in ((0.0, 0), (-0.5, -1)):
        report = polar(size)
        (found,) = report.wrong
        assert found.title.endswith("gradient of size")
        true = np.cos(0.25) + np.sin(0.25)
        assert found.comparison.expected == pytest.approx(true, rel=1e-6)
        assert found.comparison.recorded == pytest.approx(sign * true, rel=1e-6)


def test_what_a_half_spectrum_holds_of_imaginary_parts_without_a_partner_does_not_count() -> None:
    half = Given(1 + 5j, 2 - 1j, 3 + 7j)
    case = make(Sample(aten._fft_c2r.default, (half, [0], 0, 4)))
    np.testing.assert_allclose(case.value().value, [1 + 4 + 3, 1 + 2 - 3, 1 - 4 + 3, 1 - 2 - 3])
    np.testing.assert_allclose(case.result, case.value().value)
    gradient = case.gradient("x")
    assert gradient[0].imag == gradient[2].imag == 0
    np.testing.assert_allclose(gradient, case.torch_gradient("x"), rtol=1e-14)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_transforms_of_each_length_and_norm(length: int, norm: str) -> None:
    torch.manual_seed(length)
    x = torch.randn(2, length, requires_grad=True)
    z = torch.randn(2, length, dtype=torch.cfloat, requires_grad=True)
    with gw.watch(names={"x": x, "z": z}) as witness:
        made = [
            torch.fft.rfft(x, norm=norm).abs(),
            torch.fft.irfft(z, n=length, norm=norm),
            torch.fft.hfft(z, n=length, norm=norm),
            torch.fft.ihfft(x, norm=norm).real,
            torch.fft.ifft(torch.fft.fft(z, norm=norm)).real,
            torch.fft.fftshift(torch.fft.fft2(z, norm=norm)).imag,
        ]
        torch.autograd.backward(sum(part.square().sum() for part in made))
    assert dict(witness.report.reasons()) == {}
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert all(row.digits > 5 for row in witness.report.rows)


def test_torch_has_no_gradient_of_renorm_by_the_largest_modulus_in_complex64() -> None:
    """It holds the moduli against their largest one in another format, and finds none: 0 / 0."""
    x = torch.tensor([[1 + 1j, 0.5]], requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(torch.renorm(x, float("inf"), 0, 0.5)[0, 1].real)
    assert x.grad is not None
    assert torch.isnan(torch.view_as_real(x.grad)).all()
    (found,) = witness.report.wrong
    assert found.title.endswith("gradient of x")
    # Of 0.5 * 0.5 / r, with r = sqrt(2), along the direction of 1 + i: -0.25 / r^2 (1 + i) / r.
    assert found.comparison.expected == pytest.approx(-0.125 * (1 + 1j) / np.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("z", [-2 + 0.5j, 2 + 0.5j, -0.3 - 1j])
def test_slope_of_the_inverse_hyperbolic_cosine_on_both_sides(z: complex) -> None:
    """1 / sqrt(z^2 - 1) has the wrong sign on the left."""
    case = make(Sample(aten.acosh.default, (Given(z),)))
    (g,) = (np.asarray(g) for g in case.cotangents)
    step = 1e-6
    slope = (np.arccosh(z + step) - np.arccosh(z - step)) / (2 * step)
    assert case.gradient("x") == pytest.approx(g * np.conjugate(slope), rel=1e-9)


def test_which_modulus_is_the_largest_is_not_judged_where_rounding_decides() -> None:
    given = (Given(3 + 4j, 4 + 3.00000001j, 1), float("inf"))
    case = make(Sample(aten.linalg_vector_norm.default, given, {"dtype": torch.complex128}))
    with pytest.raises(Unjudgeable, match="rounding decides"):
        case.gradient("x")


def test_a_cholesky_factor_has_a_real_diagonal() -> None:
    case = make(Sample(aten.cholesky_inverse.default, (Planar((2, 2), gap=0.5),)))
    with pytest.raises(Unjudgeable, match="diagonal is not real"):
        case.value()
