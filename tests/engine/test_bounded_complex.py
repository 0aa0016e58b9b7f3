"""Bounds of complex numbers and of Fourier transforms: float32 arithmetic lies within them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import scipy.fft
import torch

from gradwitness._errors import RuleError
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.fourier import _factors
from gradwitness.engine.floats import Arithmetic, gamma
from gradwitness.rules.kernel_ops import continue_from, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

SINGLE, DOUBLE = Arithmetic.stepwise("float32"), Arithmetic.stepwise("float64")
U = 2.0**-24
fft: Any = np.fft  # whose functions hand bounded arrays on to ours


def planar(rng: np.random.Generator, *shape: int, spread: float = 0.0) -> NDArray[Any]:
    """Complex numbers that complex64 holds, of sizes between powers of ten."""
    sizes = 10.0 ** rng.uniform(-spread, spread, shape)
    numbers = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * sizes
    return np.asarray(numbers.astype(np.complex64), np.complex128)


def used(result: Bounded, single: Any) -> float:
    """The largest part of the bound that a computation in complex64 uses."""
    assert result.rigorous is not None
    assert result.rigorous.dtype == np.float64
    return float(np.max(np.abs(single - result.value) / result.rigorous))


FUNCTIONS = (
    np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sqrt, np.sin, np.cos, np.tan,
    np.sinh, np.cosh, np.tanh, np.arcsin, np.arccos, np.arctan, np.arcsinh, np.arccosh, np.arctanh,
)  # fmt: skip
# Those that overflow far from 0.
STEEP = {"exp", "exp2", "expm1", "sin", "cos", "sinh", "cosh", "power"}

OPERATIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "product": (lambda a, b: a * b, 2),
    "quotient": (lambda a, b: a / b, 2),
    "sum": (lambda a, b: a + b, 2),
    "modulus": (lambda a: abs(a), 1),
    **{function.__name__: (function, 1) for function in FUNCTIONS},
    "root": (lambda a: a**0.5, 1),
    "fourth power": (lambda a: a**4, 1),
    "power": (lambda a, b: a**b, 2),
    "square": (np.square, 1),
    "cube": (lambda a: a**3, 1),
    "reciprocal": (lambda a: a**-1.0, 1),
}


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_single_precision_lies_within(name: str, spread: float) -> None:
    run, count = OPERATIONS[name]
    rng = np.random.default_rng(0)
    limit = 0.0 if name in STEEP else spread
    operands = [planar(rng, 20_000, spread=limit) for _ in range(count)]
    single = run(*(x.astype(np.complex64) for x in operands))
    assert single.dtype in (np.complex64, np.float32)
    if name == "log1p":  # NumPy's own loses the digits of small numbers
        single = torch.log1p(torch.from_numpy(operands[0].astype(np.complex64))).numpy()
    assert 0.05 < used(run(*(Bounded(x, SINGLE) for x in operands)), single) < 1


def test_a_part_that_cancels_is_not_good_to_its_own_size_but_to_the_modulus() -> None:
    # (1 + d + i) (1 + i) has the real part d, of which no digit need be right.
    d = np.float32(2.0**-20)
    a, b = np.array([1 + d + 1j]), np.array([1 + 1j])
    bound = (Bounded(a, SINGLE) * Bounded(b, SINGLE)).rigorous
    assert bound == pytest.approx(gamma(3, SINGLE.unit) * np.abs(a * b), rel=1e-6)
    assert np.abs((a * b).real) < 4 * bound


def test_what_underflows_in_a_part_is_allowed_for() -> None:
    # The product of the imaginary parts is 2^-130: flushed to zero, it is missing in the real part.
    a, b = np.array([1 + 2.0**-20 * 1j]), np.array([2.0**-110 * (1 + 1j)])
    bound = (Bounded(a, SINGLE) * Bounded(b, SINGLE)).rigorous
    assert np.all(bound > 2.0**-130)
    assert np.all(gamma(3, SINGLE.unit) * np.abs(a * b) < 2.0**-130)
    assert not np.any((Bounded(a, SINGLE) * Bounded(np.zeros(1, complex), SINGLE)).rigorous)


def test_real_and_complex_factors_round_once() -> None:
    rng = np.random.default_rng(1)
    x, z = planar(rng, 500).real, planar(rng, 500)
    bound = (Bounded(x, SINGLE) * Bounded(z, SINGLE)).rigorous
    assert bound == pytest.approx(U * np.abs(x * z), rel=1e-6)


def test_turning_by_a_right_angle_and_conjugating_round_nothing() -> None:
    z: Any = Bounded(planar(np.random.default_rng(2), 3), SINGLE)
    for made in (1j * z, np.conjugate(z), -z, np.real(z), np.imag(z), z * 2):
        assert made.is_exact


def test_errors_of_the_parts_make_one_of_the_modulus() -> None:
    parts = (Bounded(np.ones(2), SINGLE, e, e) for e in (np.full(2, 3.0), np.full(2, 4.0)))
    assert paired(*parts).rigorous.tolist() == [5, 5]


@pytest.mark.parametrize("terms", [1, 7, 300])
def test_matrix_product_lies_within(terms: int) -> None:
    rng = np.random.default_rng(terms)
    a, b = planar(rng, 70, terms), planar(rng, terms, 80)
    single = a.astype(np.complex64) @ b.astype(np.complex64)
    assert 0.001 < used(Bounded(a, SINGLE) @ Bounded(b, SINGLE), single) < 1


def test_a_start_takes_part_in_two_sums_for_each_complex_product() -> None:
    products, start = Bounded(np.zeros(3, complex), SINGLE), Bounded(np.full(3, 1 - 1j), SINGLE)
    bound = continue_from(products, start, 50).rigorous
    assert np.all(bound >= gamma(2 * 50, SINGLE.unit) * np.sqrt(2))


def test_carried_errors_reach_what_they_can() -> None:
    rng = np.random.default_rng(3)
    z, w, e = planar(rng, 400), planar(rng, 400), np.full(400, 1e-3)
    turn = np.exp(2j * np.pi * rng.random(400))
    powers = (lambda x: x**3, lambda x: x**-2.5, lambda x: w**x)
    products = (lambda x: x * w, lambda x: x / w, lambda x: w / x, abs, np.square)
    for run in (*products, *FUNCTIONS, *powers):
        bound = run(Bounded(z, DOUBLE, e, e)).rigorous
        with np.errstate(all="ignore"):
            off = np.abs(run(z + e * turn) - run(z))
        assert np.all(off <= bound)
        assert np.max(off / bound) > 0.49


CUTS: tuple[tuple[Any, complex], ...] = (
    (np.log, -1), (np.log1p, -3), (np.arcsin, 2), (np.arccos, -2), (np.arctanh, 2),
    (np.arccosh, 0.5), (np.arctan, 2j), (np.arcsinh, -2j), (lambda x: x**0.5, -1),
)  # fmt: skip


@pytest.mark.parametrize(("function", "at"), CUTS)
def test_what_an_error_may_take_across_a_cut_has_no_bound(function: Any, at: complex) -> None:
    side = 1 if at.imag else 1j
    z, e = np.array([at + 1e-3 * side, at + 3e-3 * side]), np.full(2, 2e-3)
    jump = np.abs(function(z) - function(z - 2e-3 * side))
    bound = function(Bounded(z, DOUBLE, e, e)).rigorous
    assert jump[0] > 0.5
    assert bound[0] == np.inf
    assert jump[1] < bound[1] < 0.01


def test_a_root_jumps_from_one_side_of_the_cut_to_the_other() -> None:
    z, e = np.array([-4 + 1e-3j, 0]), np.array([2e-3, 1e-2])
    root: Any = np.sqrt
    bound = root(Bounded(z, DOUBLE, e, e)).rigorous
    assert bound == pytest.approx([4, 0.1], rel=1e-3)


@pytest.mark.parametrize("size", [1e-9, 1e-5, 0.1, 3.0])
def test_small_numbers_keep_their_digits(size: float) -> None:
    z = size * (0.3 - 0.8j)
    for function, exactly in ((np.log1p, mpmath.log1p), (np.expm1, mpmath.expm1)):
        with mpmath.workdps(40):
            exact = complex(exactly(mpmath.mpc(z)))
        found = function(Bounded(np.array([z]), DOUBLE))
        assert abs(found.value[0] - exact) <= found.rigorous[0] < 1e-14 * abs(exact)


def test_products_and_sums_of_several_lie_within() -> None:
    x = planar(np.random.default_rng(6), 500, 40)
    single = x.astype(np.complex64)
    z: Any = Bounded(x, SINGLE)
    functions: tuple[Any, ...] = (np.cumsum, np.cumprod, np.prod)
    for run in functions:
        # The first of each row is a copy.
        several = (slice(None), slice(1, None))[: run(single, axis=1).ndim]
        assert 0.001 < used(run(z, axis=1)[several], run(single, axis=1)[several]) < 1


@pytest.mark.parametrize("function", [np.maximum, np.greater, np.sign, np.floor])
def test_what_has_no_bound_is_refused(function: Any, snapshot: SnapshotAssertion) -> None:
    z = Bounded(np.ones(2, complex), SINGLE)
    with pytest.raises(NotImplementedError) as error:
        function(*[z] * function.nin)
    assert str(error.value) == snapshot


def test_real_arrays_take_no_complex_numbers(snapshot: SnapshotAssertion) -> None:
    x: Any = Bounded(np.ones(2), SINGLE)
    with pytest.raises(RuleError) as error:
        x[0] = Bounded(np.asarray(1j), SINGLE)
    assert str(error.value) == snapshot
    with pytest.raises(NotImplementedError) as refused:
        np.sort(Bounded(np.ones(2, complex), SINGLE), axis=0)  # type: ignore[call-overload]
    assert str(refused.value) == snapshot


# Transforms.


def inputs(n: int) -> list[NDArray[Any]]:
    """Numbers at random, one alone, all alike, and one frequency."""
    rng = np.random.default_rng(n)
    alone = np.zeros(n, complex)
    alone[n // 2] = 1 + 0.3j
    wave = np.exp(2j * np.pi * 3 * np.arange(n) / n)
    found = (planar(rng, n), alone, np.full(n, 0.3 - 0.1j), wave)
    return [np.asarray(x.astype(np.complex64), np.complex128) for x in found]


LENGTHS = [*range(1, 40), 64, 97, 100, 127, 128, 210, 243, 257, 343, 1009, 1024, 4096]


@pytest.mark.parametrize("n", LENGTHS)
def test_transforms_of_a_library_lie_within(n: int) -> None:
    for x in inputs(n):
        z = Bounded(x, SINGLE)
        half, real = x[: n // 2 + 1].astype(np.complex64), x.real.astype(np.float32)
        pairs: list[tuple[Any, Any]] = [
            (fft.fftn(z, axes=[0], norm="backward"), scipy.fft.fft(x.astype(np.complex64))),
            (
                fft.ifftn(z, axes=[0], norm="ortho"),
                scipy.fft.ifft(x.astype(np.complex64), norm="ortho"),
            ),
            (
                fft.rfftn(Bounded(x.real, SINGLE), axes=[0], norm="forward"),
                scipy.fft.rfft(real, norm="forward"),
            ),
            (
                fft.irfftn(z[: n // 2 + 1], s=[n], axes=[0], norm="backward"),
                scipy.fft.irfft(half, n=n),
            ),
        ]
        for ours, theirs in pairs:
            assert theirs.dtype in (np.complex64, np.float32)
            assert used(ours, theirs) < 1


@pytest.mark.parametrize("n", [2, 8, 15, 64, 1024])
def test_bound_of_a_transform_is_not_far_from_the_theorem(n: int) -> None:
    x = inputs(n)[0]
    bound = fft.fftn(Bounded(x, SINGLE), axes=[0], norm="backward").rigorous
    # Higham 2002, theorem 24.2, of powers of two, with a twiddle factor good to u.
    stage = U + gamma(4, U) * (np.sqrt(2) + U)
    theorem = np.log2(n) * stage * np.sqrt(n) * np.linalg.norm(x)
    assert np.all(bound < 2.5 * theorem)
    assert np.all(bound > theorem / 2.5)


def convolved(x: NDArray[Any], dtype: Any = np.complex64) -> NDArray[Any]:
    """A transform by Bluestein's convolution, in complex64."""
    n = len(x)
    m = 1 << (2 * n - 1).bit_length()
    k = np.arange(n)
    chirp = np.exp(-1j * np.pi * (k * k % (2 * n)) / n).astype(dtype)
    a, b = np.zeros(m, dtype), np.zeros(m, dtype)
    a[:n] = x.astype(dtype) * chirp
    b[:n] = chirp.conj()
    b[m - n + 1 :] = chirp[:0:-1].conj()
    product = scipy.fft.fft(a) * scipy.fft.fft(b)
    return np.asarray(scipy.fft.ifft(product)[:n] * chirp)


@pytest.mark.parametrize("n", [17, 101, 509, 1021])
def test_transform_by_a_convolution_lies_within(n: int) -> None:
    for x in inputs(n):
        exact = convolved(x, np.complex128)
        ours = fft.fftn(Bounded(x, SINGLE), axes=[0], norm="backward")
        assert np.allclose(exact, ours.value, atol=1e-9)
        assert used(ours, convolved(x)) < 1
    # One number alone: without the convolution's own bound it would be refuted.
    alone = Bounded(inputs(n)[1], SINGLE)
    direct = np.sqrt(2) * (n + 8) * U * np.abs(alone.value).sum()
    assert np.all(fft.fftn(alone, axes=[0], norm="backward").rigorous > direct)


def test_several_axes_are_one_transform_of_all_their_numbers() -> None:
    rng = np.random.default_rng(5)
    x = planar(rng, 3, 8, 6)
    ours = fft.fftn(Bounded(x, SINGLE), axes=[1, -1], norm="backward")
    assert 0.001 < used(ours, scipy.fft.fftn(x.astype(np.complex64), axes=(1, 2))) < 1
    assert np.all(ours.rigorous == ours.rigorous[:, :1, :1])


def test_errors_of_the_operands_are_added_up() -> None:
    x, e = np.zeros(8, complex), np.arange(8.0)
    ours = fft.ifftn(Bounded(x, SINGLE, e, e), axes=[0], norm="backward")
    assert ours.rigorous == pytest.approx(np.full(8, np.sum(e) / 8), rel=1e-5)
    half = fft.irfftn(Bounded(x[:5], SINGLE, e[:5], e[:5]), s=[8], axes=[0], norm="forward")
    assert half.rigorous == pytest.approx(np.full(8, 0 + 2 * (1 + 2 + 3) + 4), rel=1e-5)


def test_transform_of_zeros_is_exact() -> None:
    ours = fft.fftn(Bounded(np.zeros(8, complex), SINGLE), axes=[0], norm="backward")
    assert not np.any(ours.rigorous)


def test_prime_factors() -> None:
    assert [_factors(n) for n in (1, 2, 12, 97, 98, 1009 * 4)] == [
        (), (2,), (2, 2, 3), (97,), (2, 7, 7), (2, 2, 1009),
    ]  # fmt: skip
