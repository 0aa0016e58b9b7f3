"""Laws that right gradients obey whatever the data: witnesses where only weights are known.

If a certain change of the weights leaves the loss unchanged, the gradient is orthogonal to that
change. Each law here is such a symmetry:

- A unit whose activation is positively homogeneous (ReLU, leaky ReLU, max and average pooling,
  none): incoming weights and bias times a, outgoing ones over a. For each unit
  ``<w_in, dw_in> + b db = <w_out, dw_out>``. It does not hold where a normalisation, a skip
  connection or another layer also uses the unit.
- Two linear maps in a row (also values and output of an attention head): any invertible matrix
  between them, which makes the law one of matrices.
- Softmax cross-entropy: the same number added to all logits. The bias gradient sums to 0 over the
  classes, and so does each column of the weight gradient. So it does ahead of a layer norm over the
  outputs; ahead of a batch norm in training, each bias has the gradient 0. So has the bias of an
  attention's keys.
- A weight that is divided by its norm (weight norm, cosine layers): its own scale. ``<w, dw> = 0``
  for each row. (Batch and layer norm add an epsilon, which breaks this one.)

A wrong gradient may obey them all: a law refutes or says nothing.

Gradients are assumed to have errors of gamma_n times the largest number of their tensor (n = 1000
by default), plus the rounding of their source. The law's allowance follows from these to first
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import InputError
from gradwitness.engine.floats import gamma, is_float, unit_roundoff
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run

    Array = NDArray[np.float64]

ROUNDINGS = 1000


@dataclass(frozen=True)
class Homogeneous:
    """Units between two layers, by the layers' prefixes, with a homogeneous activation between."""

    first: str
    second: str


@dataclass(frozen=True)
class Adjoining:
    """Two linear layers with nothing between them."""

    first: str
    second: str


@dataclass(frozen=True)
class Simplex:
    """A layer to whose outputs a common number may be added: logits, inputs of a layer norm."""

    layer: str


@dataclass(frozen=True)
class Unshifted:
    """A layer whose bias has no effect: ahead of a batch norm, or keys of an attention."""

    layer: str


@dataclass(frozen=True)
class Scaled:
    """A layer each of whose weight rows is divided by its norm."""

    layer: str


Law = Homogeneous | Adjoining | Simplex | Unshifted | Scaled


@dataclass(frozen=True)
class LawFinding:
    """The result of checking a law.

    Attributes
    ----------
    law : Law
    tensors : tuple of str
        The gradients that it is about.
    verdict : Verdict
        DISAGREES or INCONCLUSIVE: no law proves a gradient right.
    text : str
        The law with its figures, or why it cannot be checked.
    residual : float
        The worst violation over what rounding allows; nan if not computed.
    at : tuple of int
        Where: a unit, or a pair of units.
    """

    law: Law
    tensors: tuple[str, ...]
    verdict: Verdict
    text: str
    residual: float = float("nan")
    at: tuple[int, ...] = ()


# Kinds of layer for `symmetries`.
MAPS = ("linear", "conv")
_HOMOGENEOUS = ("relu", "leaky_relu", "prelu", "max_pool", "avg_pool", "dropout")
KINDS = (*MAPS, *_HOMOGENEOUS, "batch_norm", "layer_norm", "cross_entropy")


def symmetries(layers: Sequence[tuple[str, str]]) -> tuple[Law, ...]:
    """Return the laws of a plain sequence of layers.

    Parameters
    ----------
    layers : sequence of (str, str)
        Kind and name's prefix of each, in order: ``linear``, ``conv``, ``relu``, ``leaky_relu``,
        ``prelu``, ``max_pool``, ``avg_pool``, ``dropout``, ``batch_norm`` (in training),
        ``layer_norm`` (over the outputs of the layer before), ``cross_entropy``. Any other kind
        ends the sequence.
    """
    holding: list[Law] = []
    previous: tuple[str, str] | None = None
    between = False
    for kind, name in layers:
        if kind in MAPS:
            if previous is not None:
                bare = not between and previous[0] == kind == "linear"
                holding.append((Adjoining if bare else Homogeneous)(previous[1], name))
            previous, between = (kind, name), False
        elif kind in _HOMOGENEOUS:
            between = True
        else:
            latest = previous if previous is not None and not between else ("", "")
            if latest[0] == "linear" and kind in ("cross_entropy", "layer_norm"):
                holding.append(Simplex(latest[1]))
            if latest[0] in MAPS and kind == "batch_norm":
                holding.append(Unshifted(latest[1]))
            previous = None
    return tuple(holding)


def laws(
    run: Run,
    weights: Mapping[str, NDArray[Any]],
    architecture: Sequence[Law],
    roundings: int = ROUNDINGS,
) -> tuple[LawFinding, ...]:
    """Check claimed gradients against the laws of their network.

    Parameters
    ----------
    run : Run
        The claims, by names ``layer.weight`` and ``layer.bias`` as torch lays them out: outputs
        first.
    weights : mapping of str to ndarray
        The parameters by the same names, as they were in the backward pass.
    architecture : sequence of Law
        The laws of this network; see `symmetries`.
    roundings : int
        n of the gamma_n that is assumed as each gradient's relative error.

    Returns
    -------
    tuple of LawFinding
        One for each law.

    Raises
    ------
    InputError
        If a weight and its gradient have different shapes.
    """
    case = _Case(run, weights, roundings)
    return tuple(_check(case, law) for law in architecture)


class _Missing(Exception):
    """A law cannot be checked; the message is the reason."""


@dataclass
class _Case:
    run: Run
    weights: Mapping[str, NDArray[Any]]
    roundings: int

    def gradient(self, name: str) -> tuple[Array, Array]:
        """Return a claimed gradient and the errors it may have."""
        claim = self.run.get(name)
        if claim is None:
            raise _Missing(f"no claim for {name}")
        if not claim.is_whole:
            raise _Missing(f"{name} is incomplete: its source leaves numbers out")
        numbers = claim.array.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise _Missing(f"{name} is not finite")
        relative = gamma(self.roundings, unit_roundoff(_format(claim)))
        largest = np.max(np.abs(numbers), initial=0.0)
        return numbers, np.broadcast_to(claim.rounding + relative * largest, numbers.shape)

    def pair(self, name: str) -> tuple[Array, Array, Array]:
        """Return a weight, its gradient and the gradient's errors."""
        if name not in self.weights:
            raise _Missing(f"the weights contain no {name}")
        g, e = self.gradient(name)
        w = np.asarray(self.weights[name], np.float64)
        if w.shape != g.shape:
            raise InputError(
                f"{name}: the weight has shape {w.shape}, its claimed gradient {g.shape}; give the "
                "weights and gradients of one network"
            )
        return w, g, e

    def has(self, name: str) -> bool:
        """Whether a layer has this parameter, as far as can be told."""
        return name in self.weights or name in self.run

    def largest(self) -> float:
        """Return the largest of all claimed numbers, as a scale for what should be 0."""
        magnitudes = (np.abs(c.array.astype(np.float64)) for c in self.run.values())
        finite = (float(np.max(a, initial=0.0, where=np.isfinite(a))) for a in magnitudes)
        return max(finite, default=0.0)


def _format(claim: Claim) -> str:
    """Return the format of a claim's arithmetic; printed numbers came from float32 or better."""
    if is_float(claim.dtype):
        return claim.dtype
    name = claim.array.dtype.name
    return name if is_float(name) and name != "float64" else "float32"


def _check(case: _Case, law: Law) -> LawFinding:
    names = _tensors(case, law)
    try:
        gap, allowed, formula = _LAWS[type(law)](case, law)
    except _Missing as reason:
        return LawFinding(law, names, Verdict.INCONCLUSIVE, str(reason))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(gap == 0, 0.0, np.abs(gap) / allowed)
    if not ratio.size:
        return LawFinding(law, names, Verdict.INCONCLUSIVE, "nothing to sum: a tensor is empty")
    index = tuple(map(int, np.unravel_index(int(np.argmax(ratio)), ratio.shape)))
    worst = float(ratio[index])
    if worst > 1:
        where = f" at {index[0] if len(index) == 1 else index}" if index else ""
        count = int(np.sum(ratio > 1))
        text = (
            f"{formula} is violated{where} by {abs(float(gap[index])):.3g}, {worst:.3g} times "
            f"what rounding allows (violated in {count} of {ratio.size} places): one of these "
            "gradients is wrong"
        )
        return LawFinding(law, names, Verdict.DISAGREES, text, worst, index)
    text = f"{formula} holds, as it does for right gradients and some wrong ones"
    return LawFinding(law, names, Verdict.INCONCLUSIVE, text, worst, index)


def _tensors(case: _Case, law: Law) -> tuple[str, ...]:
    if isinstance(law, (Homogeneous, Adjoining)):
        names = [f"{law.first}.weight", f"{law.first}.bias", f"{law.second}.weight"]
    elif isinstance(law, Unshifted):
        names = [f"{law.layer}.bias"]
    elif isinstance(law, Scaled):
        names = [f"{law.layer}.weight"]
    else:
        names = [f"{law.layer}.weight", f"{law.layer}.bias"]
    return tuple(name for name in names if name in case.run)


def _dots(w: Array, g: Array, e: Array, axis: int) -> tuple[Array, Array]:
    """Return <w, g> for each index along an axis, and its error."""
    others = tuple(k for k in range(w.ndim) if k != axis)
    total: Array = np.sum(w * g, axis=others)
    error: Array = np.sum(np.abs(w) * e, axis=others)
    return total, error


def _homogeneous(case: _Case, law: Homogeneous) -> tuple[Array, Array, str]:
    into, error = _dots(*case.pair(f"{law.first}.weight"), axis=0)
    formula = "<w_in, dw_in> = <w_out, dw_out>"
    if case.has(f"{law.first}.bias"):
        b, db, eb = case.pair(f"{law.first}.bias")
        into, error = into + b * db, error + np.abs(b) * eb
        formula = "<w_in, dw_in> + b db = <w_out, dw_out>"
    out, error_out = _dots(*case.pair(f"{law.second}.weight"), axis=1)
    if into.shape != out.shape:
        raise _Missing(f"{law.first} has {into.size} outputs, {law.second} takes {out.size}")
    return into - out, error + error_out, f"{formula} for each unit"


def _adjoining(case: _Case, law: Adjoining) -> tuple[Array, Array, str]:
    w, g, e = case.pair(f"{law.first}.weight")
    into, error = g @ w.T, e @ np.abs(w).T
    formula = "dW1 W1^T = W2^T dW2"
    if case.has(f"{law.first}.bias"):
        b, db, eb = case.pair(f"{law.first}.bias")
        into, error = into + np.outer(db, b), error + np.outer(eb, np.abs(b))
        formula = "dW1 W1^T + db1 b1^T = W2^T dW2"
    w, g, e = case.pair(f"{law.second}.weight")
    if len(into) != w.shape[1]:
        raise _Missing(f"{law.first} has {len(into)} outputs, {law.second} takes {w.shape[1]}")
    return into - w.T @ g, error + np.abs(w).T @ e, formula


def _simplex(case: _Case, law: Simplex) -> tuple[Array, Array, str]:
    sums, errors = [], []
    for name in (f"{law.layer}.weight", f"{law.layer}.bias"):
        if case.has(name):
            g, e = case.gradient(name)
            sums.append(np.ravel(g.sum(axis=0)))
            errors.append(np.ravel(e.sum(axis=0)))
    if not sums:
        raise _Missing(f"no claim for {law.layer}")
    formula = "(sum over outputs of dW, each column, and of db) = 0"
    return np.concatenate(sums), np.concatenate(errors), formula


def _unshifted(case: _Case, law: Unshifted) -> tuple[Array, Array, str]:
    g, e = case.gradient(f"{law.layer}.bias")
    # Where 0 is right, numbers are noise of unknown terms, at most as large as the run's largest.
    noise = gamma(case.roundings, unit_roundoff(_format(case.run[f"{law.layer}.bias"])))
    return g, e + noise * case.largest(), "db = 0 for a bias without effect"


def _scaled(case: _Case, law: Scaled) -> tuple[Array, Array, str]:
    gap, error = _dots(*case.pair(f"{law.layer}.weight"), axis=0)
    return gap, error, "<w, dw> = 0 for each normalised row"


_LAWS: dict[type[Any], Callable[[_Case, Any], tuple[Array, Array, str]]] = {
    Homogeneous: _homogeneous,
    Adjoining: _adjoining,
    Simplex: _simplex,
    Unshifted: _unshifted,
    Scaled: _scaled,
}
