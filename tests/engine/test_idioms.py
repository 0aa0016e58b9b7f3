"""What a NumPy user types, on plain arrays, on bounded ones, and in low precision for real."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import special

from engine.emulation import bounded, to
from gradwitness._errors import RuleError
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.tables import FUNCTIONS, UFUNCS
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

ROOT = Path(__file__).parent.parent.parent
# Over x of 3 x 4, its positive twin p, m of 4 x 2, t of 2 x 4 x 3, and rows v, w of 4.
IDIOMS = """
np.mean(x)                        np.mean(x, 0)                     x.mean(-1, keepdims=True)
np.var(x)                         np.var(x, 1)                      x.var(axis=0, ddof=1)
np.std(x, axis=-1)                x.std(0, keepdims=True)           np.clip(x, -0.5, 0.5)
np.clip(x, None, w)               np.clip(x, min=0)                 x.clip(0, 1)
np.diff(x)                        np.diff(x, axis=0)                np.diff(x, 2, 1)
np.ravel(x)                       x.ravel()                         x.flatten()
np.vstack([v, w])                 np.hstack([v, w])                 np.stack([v, w], 1)
np.column_stack([v, w])           np.concatenate([v, w])            np.copy(x)
x.copy()                          x.astype(float)                   np.reciprocal(p)
np.dot(v, w)                      np.dot(x, m)                      np.dot(v, t)
np.dot(t, m.T[:, :3].T)           x.dot(v)                          x @ m
np.outer(v, w)                    np.trace(x)                       x.trace(1)
np.round(3 * x)                   np.round(x, 2)                    np.rint(5 * x)
x.round()                         np.einsum('ij,jk->ik', x, m)      np.einsum('ij,ij->i', x, p)
np.einsum('...j,j', x, v)         np.einsum('ij->j', x)             np.einsum('ij->ji', x)
np.einsum('ii->i', x[:, :3])      np.einsum('i,j->ij', v, w)        np.einsum('bij,bkj->bik', t, t)
np.linalg.norm(x)                 np.linalg.norm(x, axis=1)         np.linalg.norm(v, 1)
np.linalg.norm(x, np.inf, 0)      np.linalg.norm(v, 3)              np.inner(x, p)
np.vdot(v, w)                     np.tensordot(t, x, ([2], [0]))    np.tensordot(x, m, 1)
np.cumsum(x, 1)                   np.cumsum(x)                      x.cumsum(0)
np.cumprod(x, 1)                  np.square(x)                      np.negative(x)
np.positive(x)                    x ** 2                            x ** 3
p ** -1                           p ** 0.5                          1 / p
x.sum()                           x.sum(0)                          x.sum(axis=(0, 1))
np.sum(x, 1, keepdims=True)       x.max()                           x.min(1)
np.max(x, 0)                      x.prod(1)                         x.transpose()
x.transpose(1, 0)                 x.T                               t.mT
x.reshape(2, 6)                   x.reshape(-1)                     x[None].squeeze(0)
x.swapaxes(0, 1)                  x.repeat(2, 0)                    x.take([1, 0], axis=1)
x[1]                              x[..., ::2]                       x[[0, 2]]
x[x > 0]                          x[:, None]                        len(x) * x
np.stack([r.sum() for r in x])    abs(x)                            np.where(x > 0, x, 0.1 * x)
np.maximum(x, 0)                  np.minimum(x, p)                  np.ptp(x, 1)
x / x.sum(-1, keepdims=True)      x - x.mean(0)                     (x * w).sum(-1)
np.exp(x - x.max(-1, keepdims=True))                                np.tanh(x) * p
np.sort(x)                        np.argsort(x)                     np.argmax(x, 1)
np.any(x > 0)                     np.nonzero(x > 0)                 x.any()
np.zeros_like(x) + v * w              np.full_like(x, 0.1) * x          np.sqrt(p).mean()
np.fabs(x)                        np.log(p).sum(0)                  np.size(x, 0) + np.ndim(x) * x
"""
# What changes its array: NumPy's name, then the array.
CHANGES = """
x += w             x -= 1             x *= p             x /= p             x **= 2
x[0] = v           x[0] += v          x[:, 1] *= 3       x[x > 0] = 0       x[0, 0] = 0.1
x[1:] = x[:-1]     x[0] = x[1]        x[0][1:] /= 3      x[:2][0] -= x[2]   x[1:, 1:][0] += v[1:]
y = x[0]; y += v   y = x[:2]; y[0, 1:] = v[1:]           y = x[0]; y = y[1:]; y *= 0.1
"""
EXPRESSIONS = [each for line in IDIOMS.strip().splitlines() for each in re.split(r"\s{3,}", line)]
STATEMENTS = [each for line in CHANGES.strip().splitlines() for each in re.split(r"\s{3,}", line)]
# The least part of a bound that the worst of many errors has to use, as against torch's.
USED = {"float32": 0.02, "bfloat16": 0.1}
# What the values decide, or moves in steps.
DECIDED = ("x > 0", "x.any()", "argsort", "argmax", "np.round", "np.rint", "x.round")
SEEDS = range(8)
SHAPES = {"x": (3, 4), "p": (3, 4), "m": (4, 2), "t": (2, 4, 3), "v": (4,), "w": (4,)}


class Rounded(np.ndarray[Any, Any]):
    """Numbers of 16 bits, computed with in float32; every ufunc's result is rounded again."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: Any, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        # Sums inside of others stay in float32, as torch's do, until they are stored.
        plain = [i.view(np.ndarray) if isinstance(i, Rounded) else i for i in inputs]
        found = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        result = short(found) if found.dtype.kind == "f" else found
        if out is None:
            return result
        out[0][...] = result
        return out[0]


def short(x: Any) -> Any:
    return to("bfloat16", x).astype(np.float32).view(Rounded)


def drawn(dtype: str, seed: int) -> dict[str, NDArray[np.float64]]:
    """Draw numbers of a format, in float64."""
    rng = np.random.default_rng(seed)
    made = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    made["p"] = np.abs(made["p"]) + 0.5
    return {name: to(dtype, x) for name, x in made.items()}


def run(text: str, names: dict[str, Any]) -> Any:
    """Evaluate an expression, or what a statement makes of x."""
    names = {"np": np, **{name: array.copy() for name, array in names.items()}}
    if text in STATEMENTS:
        exec(text, names)  # noqa: S102
        return names["x"]
    return eval(text, names)  # noqa: S307


def low(text: str, names: dict[str, NDArray[np.float64]], dtype: str) -> Any:
    """Run in low precision: NumPy's own float32, or 16 bits after every operation."""
    short_names = {
        n: x.astype(np.float32) if dtype == "float32" else short(x) for n, x in names.items()
    }
    return to(dtype, run(text, short_names))


def value(found: Any) -> Any:
    return found.value if isinstance(found, Bounded) else np.asarray(found)


def test_there_are_many_idioms() -> None:
    assert len(EXPRESSIONS) + len(STATEMENTS) > 110


@pytest.mark.parametrize("text", [*EXPRESSIONS, *STATEMENTS])
def test_value_is_numpys_and_takes_part_in_what_follows(text: str) -> None:
    names = drawn("float32", 0)
    plain = run(text, names)
    found = run(text, {name: bounded("float32", x) for name, x in names.items()})
    assert value(found).shape == np.shape(plain)
    assert value(found) == pytest.approx(np.asarray(plain), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("dtype", USED)
@pytest.mark.parametrize("text", [*EXPRESSIONS, *STATEMENTS])
def test_low_precision_lies_within_both_bounds_and_uses_them(text: str, dtype: str) -> None:
    used = 0.0
    for seed in SEEDS:
        names = drawn(dtype, seed)
        found = run(text, {name: bounded(dtype, x) for name, x in names.items()})
        off = np.abs(low(text, names, dtype) - value(found))
        if not isinstance(found, Bounded) or found.is_exact:
            assert not np.any(off)
            return
        assert found.rigorous is not None
        assert found.probable is not None
        assert found.rigorous.shape == found.probable.shape == found.shape
        assert (found.probable <= found.rigorous).all()
        assert (off <= found.probable * (1 + 2.0**-40)).all()
        used = max(used, float(np.max(off / np.maximum(found.rigorous, 1e-300))))
    if not any(word in text for word in DECIDED):
        # Two powers from a library that is granted 8 roundings each.
        assert used > USED[dtype] / (2 if "norm(v, 3)" in text else 1)


@pytest.mark.parametrize("dtype", USED)
@pytest.mark.parametrize(
    "text", [t for t in [*EXPRESSIONS, *STATEMENTS] if not any(word in t for word in DECIDED)]
)
def test_errors_of_the_operands_are_carried_on(text: str, dtype: str) -> None:
    for seed in SEEDS:
        names = drawn(dtype, seed)
        rng = np.random.default_rng(seed)
        shifts = {name: rng.uniform(-0.01, 0.01, x.shape) for name, x in names.items()}
        moved = {name: names[name] + shift for name, shift in shifts.items()}
        arithmetic = Arithmetic.stepwise(dtype)
        given = {
            name: Bounded(
                x, arithmetic, np.abs(shifts[name]) * (1 + 2.0**-40), np.abs(shifts[name])
            )
            for name, x in moved.items()
        }
        found = run(text, given)
        off = np.abs(low(text, names, dtype) - value(found))
        assert value(found) == pytest.approx(np.asarray(run(text, moved)), rel=1e-13, abs=1e-15)
        assert (off <= found.rigorous * (1 + 2.0**-40)).all()


@pytest.mark.parametrize("text", ["np.round(x)", "np.rint(x)", "x.round(1)"])
def test_a_step_within_the_error_is_in_the_bound(text: str) -> None:
    low_x, x = np.array([0.4999, 0.051]), np.array([0.5001, 0.049])
    found = run(text, {"x": bounded("float32", x, np.abs(x - low_x))})
    off = np.abs(run(text, {"x": low_x}) - run(text, {"x": x}))
    assert off.any()
    assert (off <= found.rigorous).all()


def welford(x: NDArray[np.float32]) -> np.float32:
    """Return the variance as torch makes it: mean and sum of squares updated by each number."""
    mean, squares = np.float32(0), np.float32(0)
    for count, each in enumerate(x, 1):
        gap = each - mean
        mean = mean + gap / np.float32(count)
        squares = squares + gap * (each - mean)
    return np.float32(squares / np.float32(x.size))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["far", "one apart", "near"])
def test_a_variance_may_be_updated_number_by_number(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(500) + (1000 if kind == "far" else 0)
    if kind == "one apart":
        x = np.full(500, 1000 + rng.random())
        x[rng.integers(500)] += 1
    single = x.astype(np.float32)
    found = np.var(bounded("float32", single))
    off = abs(float(welford(single)) - float(found.value))
    assert off <= found.rigorous
    # n roundings of the mean, each of a mean of k numbers, and twice that in the sum of squares.
    length, squares = np.linalg.norm(single.astype(float)), 500 * float(found.value)
    updated = (2 * 500 + 14) * 2.0**-24 * length * np.sqrt(squares) / 500
    assert updated <= found.rigorous < 4 * updated


REFUSED = [
    "np.median(x)",
    "np.linalg.det(x)",
    "np.linalg.trace(x)",
    "np.linalg.norm(x, 2)",
    "np.einsum('ij,jk,kl', x, x, x)",
    "np.mean(x, dtype=np.float32)",
    "np.add.reduce(x)",
    "np.asarray(x)",
    "np.array([x[0], x[1]])",
    "np.zeros((2, 4)).__setitem__(0, x[0])",
    "np.zeros(4).__iadd__(x[0])",
    "float(x.sum())",
    "x.sum().item()",
    "x.astype(np.float32)",
    "(x / x).astype(int)",
    "x.T.__setitem__(0, 1)",
    "[y := x.T, x.__setitem__(0, 1)]",
    "[y := x[:1], x.__setitem__(0, 1)]",
    "[y := x[:1], z := x[1:], z.__setitem__(0, 1)]",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_no_bound_is_refused_in_words(text: str, snapshot: SnapshotAssertion) -> None:
    x = bounded("float32", drawn("float32", 0)["x"])
    with pytest.raises(RuleError) as error:
        eval(text, {"np": np, "x": x * 1.5})  # noqa: S307
    assert str(error.value) == snapshot


def test_the_page_on_custom_code_names_what_has_a_bound() -> None:
    page = (ROOT / "docs" / "custom.md").read_text().partition("what NumPy offers")[2]
    listed, _, _ = page.partition("The bound of `np.var`")
    words = set(re.findall(r"\b[a-z][a-z_0-9]*\b", " ".join(re.findall(r"`[^`]*`", listed))))
    for word in words - {"np", "linalg", "x", "i", "y", "fro", "shape", "norm"}:
        known = getattr(np, word, None) or getattr(special, word)
        assert known.__name__ in {*UFUNCS, *FUNCTIONS}, word
    assert len(words) > 100


def test_exact_numbers_may_become_plain_ones(snapshot: SnapshotAssertion) -> None:
    x = bounded("float32", [[1.0, 2.75], [0.0, -3.0]])
    assert (float(x[0, 0]), int(x[1, 1]), x[0, 1].item()) == (1.0, -3, 2.75)
    assert x.astype(int).tolist() == [[1, 2], [0, -3]]
    assert x.astype(bool).tolist() == [[True, True], [False, True]]
    assert bool(x[0, 0])
    assert not x[1, 0]
    with pytest.raises(ValueError, match="truth value of an array"):
        bool(x)
    with pytest.raises(TypeError, match="unsized object"):
        iter(x[0, 0])
    with pytest.raises(AttributeError) as error:
        x.partition(1)
    assert str(error.value) == snapshot
