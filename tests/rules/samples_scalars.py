"""Samples of comparisons, rounding, trigonometry and logarithms, one number at a time."""

from __future__ import annotations

from rules.samples_functions import between
from rules.sampling import Draw, N, aten, away, index, mask, normal, positive, sample

_CODES = index(4, N, high=9)
_OTHER = index(4, N, high=9)

COMPARISONS = (
    *(
        sample(op, _CODES, other, exact="y")
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for op, other in (
            (getattr(aten, name).Tensor, _OTHER),
            (getattr(aten, name).Scalar, 4),
        )
    ),
    *(
        sample(getattr(aten, name).Scalar, Draw((4, N), constant=True), 0.1, note="0.1", exact="y")
        for name in ("lt", "ge")
    ),
    sample(
        aten.gt.Tensor,
        Draw((3, 1, N), constant=True),
        Draw((2, 1), constant=True),
        note="broadcast",
        exact="y",
    ),
    *(
        sample(getattr(aten, f"logical_{name}").default, *operands, exact="y")
        for name, operands in (
            ("and", (_CODES, mask(4, N))),
            ("or", (_CODES, mask(4, N))),
            ("xor", (_CODES, mask(4, N))),
            ("not", (_CODES,)),
        )
    ),
    *(
        sample(op, *drawn, note=note, exact="y")
        for name in ("and", "or", "xor")
        for op in (getattr(aten, f"bitwise_{name}").Tensor, getattr(aten, f"__{name}__").Tensor)
        for note, drawn in (("bits", (_CODES, _OTHER)), ("truth", (mask(4, N), mask(4, N))))
    ),
    sample(aten.bitwise_and_.Tensor, mask(4, N), mask(4, N), note="in place", exact="y"),
    sample(aten.bitwise_not.default, _CODES, exact="y"),
    sample(aten.bitwise_not.default, mask(4, N), note="truth", exact="y"),
    *(
        sample(op, _CODES, 2, exact="y")
        for op in (
            aten.__lshift__.Scalar,
            aten.__rshift__.Scalar,
            aten.bitwise_left_shift.Tensor_Scalar,
            aten.bitwise_right_shift.Tensor_Scalar,
        )
    ),
    *(
        sample(getattr(aten, name).default, Draw((4, N), constant=True), exact="y")
        for name in ("isnan", "isinf", "isposinf", "isneginf", "signbit")
    ),
)

_STEPS = ((-2.8, -2.2), (-0.8, -0.2), (0.2, 0.8), (3.2, 3.8))
_HALVES = ((-2.4, -1.6), (-0.4, 0.4), (0.6, 1.4))
_DIVIDED = between(4, N, ends=((5.3, 5.4), (-5.4, -5.3)))
_DIVISOR = between(4, N, ends=((1.52, 1.55), (1.52, 1.55), (-1.55, -1.52)))

# Away from the powers of two.
_BINADES = ((-3.8, -2.2), (0.55, 0.95), (4.2, 7.8))

ROUNDING = (
    sample(aten.ldexp.Tensor, normal(4, N), normal(4, N)),
    sample(aten.ldexp.Tensor, normal(4, N), index(4, N, high=5), unused="y da", note="whole"),
    sample(aten.frexp.Tensor, between(4, N, ends=_BINADES), exact="y[1]", unused="y[0] dx"),
    *(
        sample(getattr(aten, name).default, between(4, N, ends=_STEPS), exact="y dx")
        for name in ("floor", "ceil", "trunc", "fix", "frac", "sign")
    ),
    sample(aten.round.default, between(4, N, ends=_HALVES), exact="y dx"),
    sample(aten.round.decimals, Draw((4, N), constant=True), decimals=2, note="digits"),
    sample(
        aten.round.decimals,
        Draw((4, N), gap=20.0, constant=True),
        decimals=-1,
        note="tens",
        unused="y",
    ),
    sample(aten.remainder.Tensor, _DIVIDED, _DIVISOR, exact="da", unused="y"),
    sample(aten.remainder.Scalar, _DIVIDED, 1.53, note="number", exact="da", unused="y"),
    sample(aten.fmod.Tensor, _DIVIDED, _DIVISOR, exact="y da"),
    sample(aten.fmod.Scalar, _DIVIDED, 1.5, note="number", exact="y da"),
    sample(
        aten.div.Tensor_mode,
        _DIVIDED,
        _DIVISOR,
        rounding_mode="floor",
        note="floor",
        exact="y da db",
    ),
    sample(
        aten.div.Tensor_mode,
        _DIVIDED,
        _DIVISOR,
        rounding_mode="trunc",
        note="trunc",
        exact="y da db",
    ),
    sample(aten.div.Tensor_mode, normal(4, N), away(4, N), rounding_mode=None, note="no mode"),
    sample(aten.div.Scalar_mode, _DIVIDED, 1.5, rounding_mode="floor", note="floor", exact="y da"),
    sample(aten.floor_divide.default, index(4, N, high=90), index(4, N, high=9, low=1), exact="y"),
    sample(
        aten.heaviside.default, Draw((4, N), constant=True), Draw((N,), constant=True), exact="y"
    ),
    sample(aten.copysign.Tensor, away(4, N), away(4, N), exact="y da db"),
    sample(aten.copysign.Scalar, away(4, N), -1.0, note="number", exact="y da"),
    sample(aten.nan_to_num.default, normal(4, N), exact="y dx"),
    sample(
        aten.fmax.default,
        Draw((4, N), gap=0.5),
        between(4, N, ends=((-0.2, 0.2),)),
        exact="y da db",
    ),
    sample(
        aten.fmin.default,
        Draw((4, N), gap=0.5),
        between(4, N, ends=((-0.2, 0.2),)),
        exact="y da db",
    ),
)

_INSIDE = between(4, N, ends=((-0.45, -0.05), (0.05, 0.45)))
_LARGE = Draw((4, N), gap=1.8, positive=True)

TRIGONOMETRY = (
    sample(aten.tan.default, between(4, N, ends=((-0.6, -0.1), (0.1, 0.6)))),
    *(
        sample(getattr(aten, name).default, _INSIDE)
        for name in ("asin", "arcsin", "acos", "arccos", "atanh", "arctanh")
    ),
    *(
        sample(getattr(aten, name).default, away(4, N))
        for name in ("atan", "arctan", "sinh", "cosh", "asinh", "arcsinh", "sinc", "erfc")
    ),
    sample(aten.special_erfc.default, normal(4, N)),
    *(sample(getattr(aten, name).default, _LARGE) for name in ("acosh", "arccosh")),
    *(
        sample(getattr(aten, name).default, away(4, N), away(4, N))
        for name in ("atan2", "arctan2", "hypot")
    ),
    sample(aten.deg2rad.default, normal(4, N)),
    sample(aten.rad2deg.default, normal(4, N)),
)

LOGARITHMS = (
    sample(aten.xlogy.Tensor, normal(4, N), positive(4, N)),
    sample(aten.xlogy.Scalar_Other, normal(4, N), 1.7, note="number"),
    sample(aten.xlogy.Scalar_Self, 1.7, positive(4, N), note="number"),
    sample(aten.logaddexp.default, normal(4, N), normal(4, N)),
    sample(aten.logaddexp2.default, normal(4, N), normal(4, N)),
    sample(aten.logit.default, between(4, N, ends=((0.42, 0.58),))),
    sample(
        aten.logit.default,
        between(4, N, ends=((0.42, 0.58), (-0.6, -0.1), (1.1, 1.6))),
        0.2,
        note="kept off",
    ),
)
