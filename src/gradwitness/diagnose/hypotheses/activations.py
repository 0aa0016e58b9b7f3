"""Mistakes in the derivative of an activation: missing, taken elsewhere, another function's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Fault, Trial, explained, explanations
from gradwitness.rules import find
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Visit

RELU = frozenset({"aten.relu"})
SMOOTH = frozenset(
    f"aten.{name}"
    for name in [
        "sigmoid",
        "tanh",
        "gelu",
        "silu",
        "leaky_relu",
        "elu",
        "celu",
        "softplus",
        "mish",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "softshrink",
        "hardshrink",
        "threshold",
        "log_sigmoid_forward",
        "exp",
        "log",
        "log1p",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "sin",
        "cos",
        "tan",
        "atan",
        "erf",
        "expm1",
        "_prelu_kernel",
    ]
)
CLAMPS = frozenset({"aten.clamp", "aten.clamp_min", "aten.clamp_max"})
POINTWISE = RELU | SMOOTH | CLAMPS


def unchanged(visit: Visit) -> list[Any]:
    """Send on what arrives."""
    return visit.sending(visit.g)


def _at_result(visit: Visit) -> list[Any] | None:
    """f'(f(z)): the formula given the activation where the pre-activation belongs."""
    site, y = visit.site, visit.site.y
    _, *others = site.operands.values()
    again = site.rule.function(y, *others, **site.parameters)
    if isinstance(again, tuple):
        return None
    return visit.sending(site.vjp(site.names[0], visit.g, **{site.names[0]: y, "y": again}))


def _result_is_input(visit: Visit) -> list[Any] | None:
    """Z (1 - z): the formula over the activation given the pre-activation."""
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
        # From the activation that there is, as one who mixes the formulas up has it.
        return visit.sending(rule.gradients["x"](visit.g, visit.site.y, (x,), {}))

    return wrong


def _gate_only(visit: Visit) -> list[Any] | None:
    """Leave out the product rule's second term: s for s + x s (1 - s), Phi for Phi + x phi."""
    x = visit.site.operands["x"]
    gate = np.divide(visit.site.y, x, out=np.full(x.shape, 0.5), where=x != 0)
    return visit.sending(visit.g * gate)


def _other_gelu(visit: Visit) -> list[Any]:
    other = "none" if visit.site.parameters.get("approximate") == "tanh" else "tanh"
    return [visit.site.vjp("x", visit.g, approximate=other)]


def _by_gradient(visit: Visit) -> list[Any]:
    return [np.where(visit.g > 0, visit.g, 0)]


def _as_relu(visit: Visit) -> list[Any]:
    return visit.sending(np.where(visit.site.operands["x"] > 0, visit.g, 0))


FAULTS = (
    Fault(
        "relu mask missing",
        "the ReLU's mask is missing in backward at {place}: the gradient passes where the input "
        "was negative, too; multiply it by (z > 0)",
        RELU,
        unchanged,
    ),
    Fault(
        "relu mask taken from the gradient",
        "the ReLU at {place} keeps the gradient where the gradient is positive; what counts is "
        "where its input was",
        RELU,
        _by_gradient,
    ),
    Fault(
        "activation derivative missing",
        "the derivative of the activation is missing at {place}: the gradient passes it unchanged",
        SMOOTH,
        unchanged,
    ),
    Fault(
        "derivative taken at the activation",
        "at {place} the derivative is taken at the activation instead of the pre-activation: "
        "f'(f(z)) instead of f'(z)",
        SMOOTH,
        _at_result,
    ),
    Fault(
        "derivative formula given the pre-activation",
        "at {place} the derivative's formula, which is in terms of the activation a, was given the "
        "pre-activation z: z (1 - z) instead of a (1 - a), or the like",
        frozenset({"aten.sigmoid", "aten.tanh", "aten.exp", "aten.sqrt"}),
        _result_is_input,
    ),
    Fault(
        "derivative of the sigmoid taken",
        "at {place} the gradient is multiplied by a (1 - a), the sigmoid's derivative; the "
        "activation there is another",
        POINTWISE,
        _of_another("aten.sigmoid"),
    ),
    Fault(
        "derivative of tanh taken",
        "at {place} the gradient is multiplied by 1 - a^2, tanh's derivative; the activation there "
        "is another",
        POINTWISE,
        _of_another("aten.tanh"),
    ),
    Fault(
        "derivative of relu taken",
        "at {place} the gradient is kept where the input was positive, as a ReLU does; the "
        "activation there is another",
        SMOOTH,
        _as_relu,
    ),
    Fault(
        "product rule half done",
        "at {place} one term of the product rule is missing: the gradient is multiplied by the "
        "gate alone (s, not s + x s (1 - s); Phi, not Phi + x phi)",
        frozenset({"aten.silu", "aten.gelu", "aten.mish", "aten.hardswish"}),
        _gate_only,
    ),
    Fault(
        "other form of gelu differentiated",
        "at {place} the derivative is that of GELU's other form (the tanh approximation for the "
        "exact one, or the reverse)",
        frozenset({"aten.gelu"}),
        _other_gelu,
    ),
    Fault(
        "abs derivative missing",
        "the sign is missing at {place}: the derivative of |x| is sign(x)",
        frozenset({"aten.abs"}),
        unchanged,
    ),
)


def activation_faults(case: Case) -> Iterator[Explanation]:
    """Explain by a wrong derivative at an activation, at one or at all of them."""
    return explained(case, FAULTS)


# What has no activation, but is given one's derivative.

LAYERS = frozenset(
    f"aten.{name}"
    for name in ["addmm", "mm", "bmm", "mv", "baddbmm", "convolution", "add", "native_batch_norm"]
)


def masked(how: Any) -> Any:
    """Return the mistake of multiplying what arrives by a function of the output."""

    def wrong(visit: Visit) -> list[Any] | None:
        # The formulas are linear in g for each edge: none needs the mask by itself.
        changed = how(visit.site.y)
        if np.shape(changed) != np.shape(visit.g):
            return None
        arrives = visit.g * changed
        return [
            None if s is None else visit.site.vjp(name, arrives)
            for name, s in zip(visit.site.names, visit.sent, strict=True)
        ]

    return wrong


def _logistic(z: Any) -> Any:
    s = 1 / (1 + np.exp(-z))
    return s * (1 - s)


UNCALLED = (
    Fault(
        "relu mask where there is none",
        "a ReLU's mask (output > 0) is applied to the gradient at {place}, whose output goes "
        "through no ReLU",
        LAYERS,
        masked(lambda y: y > 0),
    ),
    Fault(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by a sigmoid's derivative s(z) (1 - s(z)), though "
        "its output goes through no sigmoid, or the loss has it already",
        LAYERS,
        masked(_logistic),
    ),
    Fault(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by a (1 - a) of its output a, which comes from no "
        "sigmoid",
        LAYERS,
        masked(lambda y: y * (1 - y)),
    ),
    Fault(
        "activation derivative where there is none",
        "the gradient at {place} is multiplied by 1 - a^2 of its output a, which comes from no "
        "tanh",
        LAYERS,
        masked(lambda y: 1 - y * y),
    ),
)


def derivative_of_nothing(case: Case) -> Iterator[Explanation]:
    """Explain by an activation's derivative after a layer that has none."""
    trial = Trial.of(case)
    if trial is None:
        return
    masked_already = _entering(trial, RELU)
    sites = [s for s in trial.sites(LAYERS) if masked_already.isdisjoint(s.call.outputs)]
    for fault in UNCALLED:
        yield from explanations(trial, fault, sites)


def _entering(trial: Trial, ops: frozenset[str]) -> frozenset[int]:
    """Return the values that go straight into one of some operations."""
    calls = (call for call in trial.tape.calls if call.base_op in ops)
    return frozenset(n for c in calls for a in c.arguments.values() for n in references(a))
