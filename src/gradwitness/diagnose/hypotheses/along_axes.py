"""Mistake: a formula that runs along an axis takes another axis, the other way, or a sister's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.wrong_masks import IGNORED
from gradwitness.diagnose.hypotheses.wrong_values import LEFT_OUT
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

    # A cause, a text on the step's derivative, and what is sent to the only operand.
    Try = tuple[str, str, Callable[[Visit], Any]]

WRONG_AXIS = "derivative along the wrong axis"
NOT_REVERSED = "running sum not reversed"
OFF_BY_ONE = "running sum off by one"
WITHOUT_SUM = "log-softmax without its sum"
SHIFTED = "padding cut off at the wrong place"
SISTER = "derivative of a sister function"
PADDING = "gradients of the padding dropped"

_LOG_SOFTMAX = aten("_log_softmax")
_SOFTMAX = aten("_softmax _safe_softmax")
_RUNNING = aten("cumsum cumprod logcumsumexp")
_EXTREMES = aten("max min amax amin")
_PADS = aten(
    " ".join(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3))
)
_TRIED = _LOG_SOFTMAX | _SOFTMAX | _RUNNING | _EXTREMES | _PADS | aten("constant_pad_nd logsumexp")


@on_replay
def along_axes(trial: Trial) -> Iterator[Explanation]:
    """Explain by a derivative of rows that is taken of other rows, or as of another function."""
    for site in trial.sites(_TRIED):
        step = f"{site.op.partition('.')[2].lstrip('_')} at {site.place}"
        for tried, (cause, text, sent) in enumerate(_tries(site), 1):

            def wrong(visit: Visit, sent: Any = sent) -> list[Any]:
                return visit.sending(sent(visit))

            said = f"the derivative of {step} {text}"
            yield from trial.explained(
                cause, said, [(site, wrong)], place=site.place, node=site.node.id, freedom=tried
            )


def _tries(site: Site) -> Iterator[Try]:
    if site.op in _PADS:
        yield PADDING, "drops what arrives at the padding", _inside
    elif site.op == "aten.constant_pad_nd":
        yield from _shifted(site)
    elif site.op == "aten.logsumexp":
        yield LEFT_OUT, "is left out: every number gets what arrives, as of a sum", _to_all
        yield from _softmax_along_others(site)
    elif site.op in _EXTREMES:
        if "dim" in site.parameters:
            text = "passes the gradient to all numbers, not only to the one that was taken"
            yield IGNORED, text, _to_all
            yield IGNORED, "shares the gradient among all numbers", partial(_to_all, share=True)
    else:
        yield from _of_sisters(site)
        yield from _along_others(site)


def _of_sisters(site: Site) -> Iterator[Try]:
    dim = site.parameters["dim"]
    if site.op in _LOG_SOFTMAX:
        p = np.exp(site.y)
        text = "is g - p, and not g - p sum(g): the sum is left out"
        yield WITHOUT_SUM, text, lambda v: v.g - p
        text = "is that of softmax: p (g - sum(p g))"
        yield SISTER, text, lambda v: p * (v.g - (p * v.g).sum(dim, keepdims=True))
    elif site.op in _SOFTMAX:
        text = "is that of log-softmax: g - p sum(g)"
        yield SISTER, text, lambda v: v.g - site.y * v.g.sum(dim, keepdims=True)
    else:
        text = "runs in the forward's direction; it has to run from the end"
        yield NOT_REVERSED, text, _forwards
        if site.op == "aten.cumsum":
            yield OFF_BY_ONE, "leaves out each number's own gradient", lambda v: v.sent[0] - v.g


def _along_others(site: Site) -> Iterator[Try]:
    (x,) = site.operands.values()
    dim = site.parameters["dim"] % max(1, np.ndim(x))
    for axis in range(np.ndim(x)):
        if axis != dim:
            text = f"runs along axis {axis} instead of {dim}"
            yield WRONG_AXIS, text, partial(_vjp, dim=axis)
            y = site.rule.function(x, **{**site.parameters, "dim": axis})
            for along in (axis, dim):
                how = f"takes results along axis {axis} and sums along {along}; right is {dim}"
                yield WRONG_AXIS, how, partial(_vjp, dim=along, y=y)


def _vjp(visit: Visit, **changed: Any) -> Any:
    return visit.site.vjp("x", visit.g, **changed)


def _forwards(visit: Visit) -> Any:
    """Return the formula from the other end: of everything turned round."""
    site = visit.site
    g, x, y = (np.flip(a, site.parameters["dim"]) for a in (visit.g, site.operands["x"], site.y))
    return np.flip(site.vjp("x", g, x=x, y=y), site.parameters["dim"])


def _to_all(visit: Visit, *, share: bool = False) -> Any:
    x = visit.site.operands["x"]
    return np.broadcast_to(_kept(visit), x.shape) * (visit.g.size / x.size if share else 1.0)


def _inside(visit: Visit) -> Any:
    """Return what arrives between the padding, whose lengths begin at the last axis."""
    before = visit.site.parameters["padding"][::2]
    return _from(visit, before, np.shape(visit.site.operands["x"]))


def _from(visit: Visit, starts: Sequence[int], shape: tuple[int, ...]) -> Any:
    g = visit.g
    for axis, start in enumerate(starts, 1):
        g = np.take(g, range(start, start + shape[-axis]), -axis)
    return g


def _shifted(site: Site) -> Iterator[Try]:
    pad, shape = site.parameters["pad"], np.shape(site.operands["x"])
    for k, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        for start in {0, before - 1, before + 1, before + after} - {before}:
            if min(pad) >= 0 and 0 <= start <= before + after:
                starts = [*pad[::2][:k], start, *pad[::2][k + 1 :]]
                axis = len(shape) - 1 - k
                text = f"begins at {start} along axis {axis}; {before} were put before"
                yield SHIFTED, text, partial(_from, starts=starts, shape=shape)


def _softmax_along_others(site: Site) -> Iterator[Try]:
    x, dims = site.operands["x"], site.parameters["dim"]
    for axis in range(np.ndim(x)) if len(dims) == 1 else ():
        if axis != dims[0] % np.ndim(x):
            e = np.exp(x - x.max(axis, keepdims=True))
            p = e / e.sum(axis, keepdims=True)
            text = f"takes the softmax along axis {axis} instead of {dims[0] % np.ndim(x)}"
            yield WRONG_AXIS, text, partial(_spread, p=p)


def _spread(visit: Visit, p: Any) -> Any:
    return p * _kept(visit)


def _kept(visit: Visit) -> Any:
    """Return the gradient of a result with the axis along which it was taken."""
    kept = visit.site.parameters.get("keepdim")
    return visit.g if kept else np.expand_dims(visit.g, visit.site.parameters["dim"])
