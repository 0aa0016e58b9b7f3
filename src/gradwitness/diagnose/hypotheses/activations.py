"""Mistake: an activation's derivative is missing, misplaced, or another function's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import (
    Mistake,
    Trial,
    aten,
    explained,
    explanations,
    on_replay,
)
from gradwitness.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Visit

RELU = aten("relu")
SMOOTH = aten(
    "sigmoid tanh gelu silu leaky_relu elu celu softplus mish hardtanh hardswish hardsigmoid"
    " softshrink hardshrink threshold log_sigmoid_forward exp log log1p sqrt rsqrt reciprocal sin"
    " cos tan atan erf expm1 _prelu_kernel"
)
CLAMPS = aten("clamp clamp_min clamp_max")
POINTWISE = RELU | SMOOTH | CLAMPS


def unchanged(visit: Visit) -> list[Any]:
    """Pass the gradient on unchanged."""
    return visit.sending(visit.g)


def _at_result(visit: Visit) -> list[Any] | None:
    """f'(f(z)): the formula applied to the activation instead of the pre-activation."""
    site, y = visit.site, visit.site.y
    _, *others = site.operands.values()
    twice = site.rule.function(y, *others, **site.parameters)
    if isinstance(twice, tuple):
        return None
    return visit.sending(site.vjp(site.names[0], visit.g, **{site.names[0]: y, "y": twice}))


def _result_is_input(visit: Visit) -> list[Any] | None:
    """Z (1 - z): the formula in the activation applied to the pre-activation."""
    name = visit.site.names[0]
    if len(visit.site.results) > 1:
        return None
    return visit.sending(visit.site.vjp(name, visit.g, y=visit.site.operands[name]))


def _of_another(op: str) -> Any:
    """Return the mistake of taking another activation's derivative."""
    rule = find(op)
    assert rule is not None  # noqa: S101 (named below)

    def wrong(visit: Visit) -> list[Any] | None:
        x = visit.site.operands[visit.site.names[0]]
        if visit.site.op == op or np.shape(visit.site.y) != np.shape(visit.g):
            return None
        # Applied to the actual activation, as when the formulas are mixed up.
        return visit.sending(rule.gradients["x"](visit.g, visit.site.y, (x,), {}))

    return wrong


def _gate_only(visit: Visit) -> list[Any] | None:
    """Drop the product rule's second term: s for s + x s (1 - s), Phi for Phi + x phi."""
    x = visit.site.operands["x"]
    gate = np.divide(visit.site.y, x, out=np.full(x.shape, 0.5), where=x != 0)
    return visit.sending(visit.g * gate)


def _other_gelu(visit: Visit) -> list[Any]:
    other = "none" if visit.site.parameters.get("approximate") == "tanh" else "tanh"
    return [visit.site.vjp("x", visit.g, approximate=other)]


def _by_gradient(visit: Visit) -> list[Any]:
    return [np.where(visit.g > 0, visit.g, 0)]


def _sides_by_gradient(visit: Visit) -> list[Any] | None:
    sent = visit.site.vjp(visit.site.names[0], visit.g, x=visit.g)
    # Where it all passes, the mask is ignored.
    return None if np.array_equal(sent, visit.g) else visit.sending(sent)


def _as_relu(visit: Visit) -> list[Any] | None:
    mask = visit.site.operands["x"] > 0
    # What masks all or nothing is another mistake.
    return visit.sending(np.where(mask, visit.g, 0)) if mask.any() and not mask.all() else None


MISTAKES = (
    Mistake(
        "relu mask missing",
        "the ReLU's mask is missing in backward at {place}: the gradient also passes where the "
        "input was negative; multiply it by (z > 0)",
        RELU,
        unchanged,
    ),
    Mistake(
        "relu mask taken from the gradient",
        "the ReLU at {place} keeps the gradient where the gradient is positive, instead of where "
        "its input was",
        RELU,
        _by_gradient,
    ),
    Mistake(
        "mask taken from the gradient",
        "at {place} the slope is chosen by the gradient's numbers, instead of by the input's",
        aten("leaky_relu _prelu_kernel clamp hardtanh threshold hardshrink softshrink"),
        _sides_by_gradient,
    ),
    Mistake(
        "activation derivative missing",
        "the derivative of the activation is missing at {place}: the gradient passes it unchanged",
        SMOOTH,
        unchanged,
    ),
    Mistake(
        "derivative taken at the activation",
        "at {place} the derivative is taken at the activation instead of the pre-activation: "
        "f'(f(z)) instead of f'(z)",
        SMOOTH,
        _at_result,
    ),
    Mistake(
        "derivative formula given the pre-activation",
        "at {place} the derivative's formula in terms of the activation a was applied to the "
        "pre-activation z: z (1 - z) instead of a (1 - a), or the like",
        aten("sigmoid tanh exp sqrt"),
        _result_is_input,
    ),
    Mistake(
        "derivative of the sigmoid taken",
        "at {place} the gradient is multiplied by a (1 - a), the derivative of the sigmoid, but "
        "the activation is a different one",
        POINTWISE,
        _of_another("aten.sigmoid"),
    ),
    Mistake(
        "derivative of tanh taken",
        "at {place} the gradient is multiplied by 1 - a^2, the derivative of tanh, but the "
        "activation is a different one",
        POINTWISE,
        _of_another("aten.tanh"),
    ),
    Mistake(
        "derivative of relu taken",
        "at {place} the gradient is kept where the input was positive, as for a ReLU, but the "
        "activation is a different one",
        SMOOTH,
        _as_relu,
    ),
    Mistake(
        "product rule half done",
        "at {place} one term of the product rule is missing: the gradient is multiplied by the "
        "gate alone (s, not s + x s (1 - s); Phi, not Phi + x phi)",
        aten("silu gelu mish hardswish"),
        _gate_only,
    ),
    Mistake(
        "other form of gelu differentiated",
        "at {place} the derivative is that of GELU's other form (the tanh approximation instead of "
        "the exact one, or vice versa)",
        aten("gelu"),
        _other_gelu,
    ),
    Mistake(
        "wrong power in the derivative",
        "at {place} the gradient is multiplied by 1 - a, and not by 1 - a^2 of the activation a",
        aten("tanh"),
        lambda visit: visit.sending(visit.g * (1 - visit.site.y)),
    ),
    Mistake(
        "a factor missing",
        "at {place} the gradient is multiplied by 1 - a alone, and not by a (1 - a) of the "
        "activation a",
        aten("sigmoid"),
        lambda visit: visit.sending(visit.g * (1 - visit.site.y)),
    ),
    Mistake(
        "a factor missing",
        "at {place} the gradient is multiplied by the activation a, and not by a (1 - a)",
        aten("sigmoid"),
        lambda visit: visit.sending(visit.g * visit.site.y),
    ),
    Mistake(
        "abs derivative missing",
        "the sign is missing at {place}: the derivative of |x| is sign(x)",
        aten("abs"),
        unchanged,
    ),
)


def activation_mistakes(case: Case) -> Iterator[Explanation]:
    """Explain by a wrong derivative at one or all activations."""
    return explained(case, MISTAKES)


# Layers without an activation, multiplied by the derivative of one.

LAYERS = aten("addmm mm bmm mv baddbmm convolution add native_batch_norm")


def masked(derivative: Any) -> Any:
    """Return the mistake of multiplying the cotangent by a function of the output."""

    def wrong(visit: Visit) -> list[Any] | None:
        # The formulas of all edges are linear in g.
        factor = derivative(visit.site.y)
        if np.shape(factor) != np.shape(visit.g):
            return None
        return visit.again(visit.g * factor)

    return wrong


def _logistic(z: Any) -> Any:
    s = 1 / (1 + np.exp(-z))
    return s * (1 - s)


WITHOUT_ACTIVATION = (
    Mistake(
        "relu mask where there is none",
        "a ReLU's mask (output > 0) is applied to the gradient at {place}, but there is no ReLU "
        "after it",
        LAYERS,
        masked(lambda y: y > 0),
    ),
    Mistake(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by a sigmoid's derivative s(z) (1 - s(z)), but "
        "there is no sigmoid after it, or the loss already includes it",
        LAYERS,
        masked(_logistic),
    ),
    Mistake(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by a (1 - a) of its output a, which is not that of "
        "a sigmoid",
        LAYERS,
        masked(lambda y: y * (1 - y)),
    ),
    Mistake(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by 1 - a^2 of its output a, which is not that of "
        "a tanh",
        LAYERS,
        masked(lambda y: 1 - y * y),
    ),
)


@on_replay
def derivative_of_nothing(trial: Trial) -> Iterator[Explanation]:
    """Explain by an activation's derivative after a layer without activation."""
    masked_values = _entering(trial, RELU)
    sites = [s for s in trial.sites(LAYERS) if masked_values.isdisjoint(s.call.outputs)]
    for mistake in WITHOUT_ACTIVATION:
        yield from explanations(trial, mistake, sites)


def _entering(trial: Trial, ops: frozenset[str]) -> frozenset[int]:
    """Return the direct inputs of some operations."""
    calls = (call for call in trial.tape.calls if call.base_op in ops)
    return frozenset(n for c in calls for n in c.operands)
