"""Autograd nodes that are no operation's, and operations that the judges treat alike."""

from __future__ import annotations

from gradwitness.rules.registry import term

term(
    "AccumulateGrad",
    "adds the arriving gradient to `.grad` of a leaf (a parameter, or an input that requires grad)",
)
term(
    "CopySlices",
    "is the backward of an in-place change of a view: it sends the part of the gradient that "
    "belongs to the view through that operation's backward, and passes the rest on unchanged",
)
term(
    "CustomFunction",
    "is the backward that a user wrote in a torch.autograd.Function; its forward, as recorded, is "
    "differentiated by the rules and compared with what it returned",
)

# Operations that draw random numbers. Torch gives whatever they were drawn for, a probability or a
# mean, a gradient of zeros.
DRAWN = frozenset(
    f"aten.{name}"
    for name in (
        "bernoulli", "binomial", "cauchy", "exponential", "geometric", "log_normal", "multinomial",
        "normal", "normal_functional", "poisson", "rand", "rand_like", "randint", "randint_like",
        "randn", "randn_like", "random", "randperm", "uniform",
    )
)  # fmt: skip

# Drawn within an operation that does more.
_DRAWN_WITHIN = frozenset(
    f"aten.{name}" for name in ("native_dropout", "_sample_dirichlet", "_standard_gamma", "rrelu")
)


def draws(op: str) -> bool:
    """Whether an operation (``aten.bernoulli_.float``, or without overload) draws numbers."""
    base = ".".join(op.split(".")[:2]).removesuffix("_")
    return base in DRAWN or base in _DRAWN_WITHIN


# Memory that nobody has written to yet.
UNFILLED = frozenset(
    f"aten.{name}"
    for name in (
        "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided",
    )
)  # fmt: skip

# Operations whose result is data, not a function of recorded operands: there is nothing to check.
# The first two are drawn as well, but with a gradient: that of the numbers for a fixed quantile.
SOURCES = DRAWN.union(
    UNFILLED,
    ("aten._sample_dirichlet", "aten._standard_gamma", "aten.lift_fresh", "aten.lift_fresh_copy"),
)

# Logarithms of sums: their error is a share of the sum, however near to zero they are themselves.
LOGARITHMS = frozenset(
    f"aten.{name}" for name in ("logaddexp", "logaddexp2", "logcumsumexp", "logsumexp")
)
