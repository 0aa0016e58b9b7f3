"""Reflections in turn: right ones stay within a bound that grows with their number alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.linalg.factor_dispatch import householder
from gradwitness.verdict import Verdict

ARITHMETIC = Arithmetic.stepwise("float32")
U = 2.0**-24


def vectors(length: int, count: int, *, over_complex: bool = False) -> tuple[Any, Any]:
    """Return vectors of reflections, as columns, and the factors that make them unitary."""
    drawn = np.random.default_rng(length + count)
    v = drawn.normal(size=(length, count)).astype(np.float32).astype(np.float64)
    if over_complex:
        v = v + 1j * drawn.normal(size=v.shape).astype(np.float32)
    return v, (2 / np.sum(np.abs(v) ** 2, axis=0)).astype(np.float32).astype(np.float64)


def reflected(X: Any, v: Any, t: Any, sides: str) -> Any:
    for i, side in enumerate(sides):
        X = householder(X, v[:, i : i + 1], np.asarray(t[i]), right=side == "r")
    return X


def rounded(X: Any, v: Any, t: Any, sides: str) -> Any:
    """Reflect in single precision: each NumPy call rounds to it."""
    kind = np.complex64 if X.dtype.kind == "c" or v.dtype.kind == "c" else np.float32
    return reflected(X.astype(kind), v.astype(kind), t.astype(np.float32), sides)


@pytest.mark.parametrize("over_complex", [False, True])
@pytest.mark.parametrize("sides", ["l" * 48, "r" * 48, "lr" * 24])
def test_right_reflections_stay_within_their_bound(sides: str, over_complex: bool) -> None:
    v, t = vectors(40, len(sides), over_complex=over_complex)
    X = np.random.default_rng(1).normal(size=(40, 40)).astype(np.float32).astype(np.float64)
    bounded = reflected(Bounded(X, ARITHMETIC), v, t, sides)
    error = np.abs(rounded(X, v, t, sides) - bounded.value)
    assert (error < bounded.rigorous).all()
    assert (error < bounded.probable).all()
    # An error of the largest number's hundredth shows.
    assert bounded.rigorous.max() < np.abs(bounded.value).max() / 100


@pytest.mark.parametrize("factor", [0.3, -0.7])
def test_what_stretches_stays_within_its_bound_too(factor: float) -> None:
    v, t = vectors(8, 12)
    X = np.random.default_rng(2).normal(size=(8, 8)).astype(np.float32).astype(np.float64)
    bounded = reflected(Bounded(X, ARITHMETIC), v, factor * t, "lr" * 6)
    error = np.abs(rounded(X, v, (factor * t).astype(np.float32), "lr" * 6) - bounded.value)
    assert (error < bounded.rigorous).all()


def test_the_bound_grows_with_the_number_of_reflections() -> None:
    # Of each: gamma_(m + 3) of |t| |v|^2 = 2 times the column, and its subtraction's rounding
    # (Higham 2002, lemma 19.3). Number by number it would be 3^64 times as much as at first.
    v, t = vectors(16, 64)
    X = np.random.default_rng(3).normal(size=(16, 4)).astype(np.float32).astype(np.float64)
    bounded = reflected(Bounded(X, ARITHMETIC), v, t, "l" * 64)
    growth = 20 * U / (1 - 20 * U)
    lengths = np.sqrt(np.sum(X**2, axis=0))
    assert (bounded.rigorous <= 64 * 3 * growth * 1.01 * lengths).all()
    assert (bounded.rigorous >= 64 * U * lengths / 100).all()


def test_what_is_off_before_and_in_the_factors_is_carried_on() -> None:
    v, t = vectors(6, 10)
    X = np.random.default_rng(4).normal(size=(6, 3))
    exact = Arithmetic.stepwise("float64")
    off = np.full(X.shape, 1e-3)
    bounded: Any = Bounded(X, exact, off, off)
    moved: Any = X + off
    for i in range(10):
        error = np.asarray(1e-3 * t[i])
        factor = Bounded(np.asarray(t[i]), exact, error, error)
        bounded = householder(bounded, v[:, i : i + 1], factor)
        moved = householder(moved, v[:, i : i + 1], t[i] + error)
    error = np.abs(moved - bounded.value)
    assert (error < bounded.rigorous).all()
    # Ten factors off by a thousandth move |X| by 2/1000 each at most.
    size = np.sqrt(np.sum(X**2, axis=0))
    assert (bounded.rigorous < 0.003 * np.sqrt(6) + 10 * 0.0023 * size).all()


@pytest.mark.parametrize("count", [16, 100])
def test_lapack_applies_blocks_of_reflections_within_the_bound(count: int) -> None:
    A = np.random.default_rng(5).normal(size=(120, count)).astype(np.float32)
    packed, tau, *_ = linalg.lapack.sgeqrf(A)
    C = np.random.default_rng(6).normal(size=(120, 7)).astype(np.float32)
    product, *_ = linalg.lapack.sormqr("L", "T", packed, tau, C, lwork=7 * 64 + 64 * 65)
    v = np.tril(packed.astype(np.float64), -1) + np.eye(120, count)
    bounded = reflected(
        Bounded(C.astype(np.float64), ARITHMETIC), v, tau.astype(np.float64), "l" * count
    )
    error = np.abs(product - bounded.value)
    assert (error < bounded.rigorous).all()
    assert (error < bounded.probable).all()


def program(dtype: torch.dtype) -> gw.Witness:
    """Make and apply a product of 24 reflections."""
    torch.manual_seed(0)
    a, tau = torch.geqrf(torch.randn(24, 24, dtype=dtype))
    a, tau = a.requires_grad_(), tau.requires_grad_()
    C = torch.randn(24, 3, dtype=dtype, requires_grad=True)
    with gw.watch(names={"a": a, "tau": tau, "C": C}) as witness:
        y = torch.linalg.householder_product(a, tau) @ torch.ormqr(a, tau, C)
        y.backward(torch.randn_like(y))
    return witness


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_reflections_agree_and_a_fault_that_shows_is_found(dtype: torch.dtype) -> None:
    witness = program(dtype)
    assert witness.verdict is Verdict.AGREES
    tape, names = witness.tape, ("LinalgHouseholderProductBackward0", "OrmqrBackward0")
    checked = 0
    for finding in witness.report.findings:
        if not finding.title.startswith(names) or "gradient of" not in finding.title:
            continue
        assert finding.comparison.detects_relative < (1e-9 if dtype is torch.float64 else 0.1)
        run = next(r for r in tape.sweeps[0].node_runs if r.node == finding.node)
        number = run.outgoing[finding.tensor_nr] or 0
        wrong = np.array(tape.values[number].array)
        at = np.unravel_index(np.argmax(np.abs(wrong)), wrong.shape)
        wrong[at] += 1.01 * finding.comparison.detects
        values = list(tape.values)
        values[number] = replace(values[number], array=wrong)
        again = gw.judge(replace(tape, values=tuple(values)))
        refuted = again.first_wrong is not None and again.first_wrong.title == finding.title
        assert refuted or finding.comparison.basis
        checked += 1
    assert checked == 5
