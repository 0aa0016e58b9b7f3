"""Curves that surrogate gradients of spikes and roundings follow, fitted to what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_PLAIN = "the identity, scaled"
_MASK = "the identity, clipped"
# A fitted number is taken for one in few digits, or for an argument, within this share.
NEAR = 1e-3


@dataclass(frozen=True)
class Fitted:
    """A factor of the gradient that arrives, as a function of the input.

    Attributes
    ----------
    kind : str
    values : ndarray
        For each element.
    text, code : str
        The gradient, for people and in NumPy.
    reads : tuple of str
        Arguments of forward that stand in the formula.
    """

    kind: str
    values: Floats
    text: str
    code: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Curve:
    """A bell a f(k u), where u is the distance from the threshold.

    ``line`` maps the factor, and ``of`` the distance, so that the bell becomes a straight line;
    ``solved`` gives a and k from its two coefficients.
    """

    kind: str
    value: Callable[[Floats, float, float], Floats]
    line: Callable[[Floats], Floats]
    of: Callable[[Floats], Floats]
    solved: Callable[[float, float], tuple[float, float]]
    text: str
    code: str


_CURVES = (
    _Curve(
        "a fast sigmoid's slope",
        lambda u, a, k: a / (1 + k * np.abs(u)) ** 2,
        lambda r: 1 / np.sqrt(r),
        np.abs,
        lambda c, m: (1 / c**2, m / c),
        "{a} g / (1 + {k} |{u}|)^2",
        "g * {a} / (1 + {k} * np.abs({u})) ** 2",
    ),
    _Curve(
        "the slope of a logarithm",
        lambda u, a, k: a / (1 + k * np.abs(u)),
        lambda r: 1 / r,
        np.abs,
        lambda c, m: (1 / c, m / c),
        "{a} g / (1 + {k} |{u}|)",
        "g * {a} / (1 + {k} * np.abs({u}))",
    ),
    _Curve(
        "an arctangent's slope",
        lambda u, a, k: a / (1 + (k * u) ** 2),
        lambda r: 1 / r,
        np.square,
        lambda c, m: (1 / c, np.sqrt(m / c)),
        "{a} g / (1 + ({k} {u})^2)",
        "g * {a} / (1 + ({k} * {u}) ** 2)",
    ),
    _Curve(
        "a Gaussian",
        lambda u, a, k: a * np.exp(-k * u * u),
        np.log,
        np.square,
        lambda c, m: (np.exp(c), -m),
        "{a} g exp(-{k} {u}^2)",
        "g * {a} * np.exp(-{k} * {u} ** 2)",
    ),
    _Curve(
        "an exponential",
        lambda u, a, k: a * np.exp(-k * np.abs(u)),
        np.log,
        np.abs,
        lambda c, m: (np.exp(c), -m),
        "{a} g exp(-{k} |{u}|)",
        "g * {a} * np.exp(-{k} * np.abs({u}))",
    ),
    _Curve(
        "a triangle",
        lambda u, a, k: a * np.maximum(0, 1 - k * np.abs(u)),
        lambda r: r,
        np.abs,
        lambda c, m: (c, -m / c),
        "{a} g max(0, 1 - {k} |{u}|)",
        "g * {a} * np.maximum(0, 1 - {k} * np.abs({u}))",
    ),
)


def shape_of(
    x: Floats, g: Floats, sent: Floats, scalars: Mapping[str, float], name: str
) -> Iterator[Fitted]:
    """Yield the curves that may describe the factor between what arrived and what was sent."""
    asked = g != 0
    if not asked.any():
        return
    at, factor = x[asked].ravel(), (sent[asked] / g[asked]).ravel()
    yield from _within(x, at, factor, scalars, name)
    thresholds = {"": 0.0, **scalars, "1": 1.0, "0.5": 0.5}
    for word, threshold in thresholds.items():
        u_text = f"({name} - {word})" if word else name
        reads = (word,) if word in scalars else ()
        for curve in _CURVES:
            fit = _fit(curve, at - threshold, factor)
            if fit is not None:
                yield _named(curve, fit, x - threshold, u_text, scalars, reads)
        fit = _sigmoid(at - threshold, factor)
        if fit is not None:
            yield _named(_SIGMOID, fit, x - threshold, u_text, scalars, reads)


def one_sided(
    x: Floats, g: Floats, sent: Floats, scalars: Mapping[str, float], name: str, g_name: str
) -> Iterator[Fitted]:
    """Yield the clipped identity that still lets a gradient through which leads back inside."""
    passes, said, code = np.full(x.shape, fill_value=True), [], []
    reads: tuple[str, ...] = ()
    for asked, back, sign in ((g > 0, g < 0, "<"), (g < 0, g > 0, ">")):
        if np.all(sent[asked] == g[asked]):
            continue
        masks = _within(x, x[asked].ravel(), (sent[asked] / g[asked]).ravel(), scalars, name)
        mask = next((fitted for fitted in masks if fitted.kind == _MASK), None)
        if mask is None:
            return
        passes &= (mask.values != 0) | back
        said.append(f"{mask.text.removeprefix('g where ')} or {g_name} {sign} 0")
        code.append(f"({mask.code.removeprefix('g * ')} | ({g_name} {sign} 0))")
        reads += mask.reads
    if code:
        text = f"{g_name} where {', and '.join(said)}"
        test = code[0] if len(code) == 1 else f"({' & '.join(code)})"
        yield Fitted(_MASK, passes, text, f"g * {test}", reads)


def _fit(curve: _Curve, u: Floats, factor: Floats) -> tuple[float, float] | None:
    positive = factor > 0
    if np.unique(np.abs(u[positive])).size < 3 or (factor < 0).any():
        return None
    with np.errstate(all="ignore"):
        at, line = curve.of(u[positive]), curve.line(factor[positive])
        slope = np.sum((at - at.mean()) * line) / np.sum((at - at.mean()) ** 2)
        a, k = map(float, curve.solved(line.mean() - slope * at.mean(), slope))
    return (a, k) if np.isfinite(a) and np.isfinite(k) and a > 0 and k > 0 else None


def _logistic(u: Floats, a: float, k: float) -> Floats:
    s = 1 / (1 + np.exp(-k * u))
    return a * s * (1 - s)


_SIGMOID = _Curve(
    "a sigmoid's slope",
    _logistic,
    lambda r: r,
    np.abs,
    lambda c, m: (c, m),
    "{a} g s (1 - s), s = sigmoid({k} {u})",
    "g * {a} / (2 * np.cosh({k} * {u} / 2)) ** 2",
)


def _sigmoid(u: Floats, factor: Floats) -> tuple[float, float] | None:
    """Fit a s (1 - s), which no map makes straight."""
    from scipy.optimize import least_squares

    if (factor < 0).any() or np.unique(np.abs(u)).size < 3:
        return None
    begin = (4 * float(factor.max()), 2 / max(float(np.median(np.abs(u))), 1e-6))

    def gaps(parameters: Floats) -> Floats:
        return _logistic(u, *parameters) - factor

    fit = least_squares(gaps, begin, xtol=1e-12, max_nfev=200)
    a, k = map(float, fit.x)
    return a, abs(k)


def _named(
    curve: _Curve,
    fit: tuple[float, float],
    u: Floats,
    u_text: str,
    scalars: Mapping[str, float],
    reads: tuple[str, ...],
) -> Fitted:
    """Return a curve with its numbers in few digits, or as arguments of forward."""
    words, numbers = [], []
    for number in fit:
        named = [n for n, v in scalars.items() if abs(v - number) <= NEAR * abs(number)]
        word, number = (named[0], scalars[named[0]]) if named else short(number)
        reads += tuple(named[:1])
        words.append(word)
        numbers.append(number)
    a, k = words
    values = curve.value(u, *numbers)
    text, code = (t.format(a=a, k=k, u=u_text) for t in (curve.text, curve.code))
    if a == "1":
        text, code = text.removeprefix("1 "), code.replace(" * 1 ", " ", 1)
    if k == "1":
        text, code = text.replace("1 |", "|"), code.replace("1 * np.abs", "np.abs")
    return Fitted(curve.kind, values, text, code, reads)


def short(number: float) -> tuple[str, float]:
    """Return a number in the fewest digits that are near it; with pi where that is shorter."""
    for unit, text in ((1.0, ""), (np.pi, "np.pi"), (1 / np.pi, "/ np.pi")):
        for digits in (1, 2, 3):
            factor = float(f"{number / unit:.{digits}g}")
            if abs(factor * unit - number) <= 1e-5 * abs(number):
                if not text:
                    return f"{factor:g}", factor
                if factor == 1 and "/" not in text:
                    return text, unit
                product = f"({factor:g} {text})" if "/" in text else f"({factor:g} * {text})"
                return product, factor * unit
    return f"{number:.7g}", float(f"{number:.7g}")


def _within(
    x: Floats, at: Floats, factor: Floats, scalars: Mapping[str, float], name: str
) -> Iterator[Fitted]:
    """Yield a constant factor, or one within bounds and another outside, which may be 0."""
    least, most = float(factor.min()), float(factor.max())
    near = NEAR * max(abs(least), abs(most))
    if most - least <= near:
        if most:
            word, height = short(most)
            yield Fitted(_PLAIN, np.full(x.shape, height), f"{word} g", f"g * {word}")
        return
    if np.any((factor - least > near) & (most - factor > near)):
        return
    for inner, outer in ((most, least), (least, most)):
        inside = np.abs(factor - inner) <= near
        low, high = float(at[inside].min()), float(at[inside].max())
        below, above = at[~inside & (at < low)], at[~inside & (at > high)]
        if below.size + above.size < np.count_nonzero(~inside):
            continue
        ends = (
            _end(float(below.max()), low, scalars) if below.size else None,
            _end(float(above.min()), high, scalars) if above.size else None,
        )
        within, test, said = _range(x, *ends, name)
        reads = tuple(e.word.strip("-") for e in ends if e and e.word.strip("-") in scalars)
        (a, height), (b, rest) = short(inner), short(outer)
        values = np.where(within, height, rest)
        if outer:
            code, text = f"g * np.where({test}, {a}, {b})", f"{a} g where {said}, else {b} g"
            yield Fitted("two levels", values, text, code, reads)
        elif a == "1":
            yield Fitted(_MASK, values, f"g where {said}", f"g * {test}", reads)
        else:
            yield Fitted("a rectangle", values, f"{a} g where {said}", f"g * {a} * {test}", reads)


def _range(x: Floats, low: _Bound | None, high: _Bound | None, name: str) -> tuple[Any, str, str]:
    """Return which numbers lie in a range, and the test for it: in NumPy, and for people."""
    within: Any = np.full(x.shape, fill_value=True)
    tests, said = [], name
    if low:
        within &= (x > low.number) if low.strict else (x >= low.number)
        tests.append(f"({name} {'>' if low.strict else '>='} {low.word})")
        said = f"{low.word} {'<' if low.strict else '<='} {said}"
    if high:
        within &= (x < high.number) if high.strict else (x <= high.number)
        sign = "<" if high.strict else "<="
        tests.append(f"({name} {sign} {high.word})")
        said = f"{said} {sign} {high.word}"
        if low and low.number == -high.number and low.strict == high.strict:
            test = f"(np.abs({name}) {sign} {high.word})"
            return within, test, f"|{name}| {sign} {high.word}"
    if len(tests) == 1:
        return within, tests[0], tests[0].strip("()")
    return within, f"({' & '.join(tests)})", said


@dataclass(frozen=True)
class _Bound:
    """An end of the range in which the factor is not 0; ``word`` is the number in the formula."""

    word: str
    number: float
    strict: bool


def _end(outside: float, inside: float, scalars: Mapping[str, float]) -> _Bound:
    """Return the plainest number between one outside and one inside, below or above."""
    sign = 1.0 if outside < inside else -1.0
    out, far = sign * outside, sign * inside
    words = {n: v for n, v in scalars.items() if v}
    named = [*words.items(), *((f"-{n}", -v) for n, v in words.items())]
    grids = (1.0, 2.0, 4.0, *(10.0**d for d in range(1, 7)))
    rounded = [np.floor(far * per_unit + 1e-9) / per_unit for per_unit in grids]
    plain = [(f"{sign * n + 0.0:g}", sign * n + 0.0) for n in rounded]
    for word, number in (*named, *plain):
        if out <= sign * number <= far:
            return _Bound(word, number, strict=number == outside)
    return _Bound(repr(inside), inside, strict=False)
