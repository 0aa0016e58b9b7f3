"""Autograd nodes that are no operation's, and operations that bring data in from outside."""

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
    {
        "aten.bernoulli",
        "aten.binomial",
        "aten.cauchy",
        "aten.exponential",
        "aten.geometric",
        "aten.log_normal",
        "aten.multinomial",
        "aten.normal",
        "aten.normal_functional",
        "aten.poisson",
        "aten.rand",
        "aten.rand_like",
        "aten.randint",
        "aten.randint_like",
        "aten.randn",
        "aten.randn_like",
        "aten.random",
        "aten.randperm",
        "aten.uniform",
    }
)

# Memory that nobody has written to yet.
UNFILLED = frozenset(
    {
        "aten.empty",
        "aten.empty_like",
        "aten.empty_permuted",
        "aten.empty_strided",
        "aten.new_empty",
        "aten.new_empty_strided",
    }
)

# Operations whose result is data, not a function of recorded operands: there is nothing to check.
SOURCES = (
    DRAWN
    | UNFILLED
    | {
        # Drawn as well, but with a gradient: that of the numbers for a fixed quantile.
        "aten._sample_dirichlet",
        "aten._standard_gamma",
        "aten.lift_fresh",
        "aten.lift_fresh_copy",
    }
)
