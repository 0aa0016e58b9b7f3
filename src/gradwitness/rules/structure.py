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

# Operations whose result is data, not a function of recorded operands: there is nothing to check.
SOURCES = frozenset(
    {
        "aten.bernoulli",
        "aten.empty",
        "aten.empty_like",
        "aten.empty_permuted",
        "aten.empty_strided",
        "aten.binomial",
        "aten.cauchy",
        "aten.exponential",
        "aten.geometric",
        "aten.lift_fresh",
        "aten.lift_fresh_copy",
        "aten.log_normal",
        "aten.multinomial",
        "aten.new_empty",
        "aten.new_empty_strided",
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
