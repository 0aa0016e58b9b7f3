"""Lie groups: gradients with respect to a left perturbation exp(v) x of a group element x.

A function of rotations or rigid motions may send the gradient by v at v = 0 instead of that by the
numbers of x: in the first components, with zeros in the rest. What arrives at its results is then
of the same kind. To first order v moves x by E(x) v, so a gradient G by the numbers is E^T G by v,
and g by v is pinv(E)^T g by the numbers, along the group: with these two, rules and slopes judge
such gradients like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Retract = Callable[[Floats, Floats], Floats]
    Pair = tuple[Floats, Floats]

# By the count of an element's numbers: a translation, a unit quaternion x, y, z, w, and a scale.
_GROUPS = {2: "SO(2)", 4: "SO(3)", 5: "R+ x SO(3)", 7: "SE(3)", 8: "Sim(3)"}
_SCALED = (5, 8)
# How far elements may be off unit ones: many are made in float32, whatever their format now.
_ROUNDINGS = 32
_FLOAT32 = 2.0**-24
_EXACT = 2.0**-48
# Formulas that agree on unit elements part by so much times that beside them: those of degree two
# by twice their terms, which are up to twice their sum, on both sides.
_APART = 16
# The accuracy of a basis by differences, and the step that they take.
_BY_DIFFERENCES = 2.0**-34
_STEP = 2.0**-9


@dataclass(frozen=True)
class Chart:
    """The tangent spaces of some elements.

    Attributes
    ----------
    name : str
    at : ndarray
        The elements: one in each row of the last axis.
    basis, inverse : ndarray
        E of each element, and its pseudoinverse.
    inexact : float
        How far the basis may be off, relative to it.
    retract : callable or None
        Moves elements by v along the group, if the program declared how.
    """

    name: str
    at: Floats
    basis: Floats
    inverse: Floats
    inexact: float
    retract: Retract | None = None

    def to_numbers(self, g: Any) -> Any:
        """Return a gradient by v as one by the numbers."""
        return _times(self.inverse, g, self.inexact)

    def to_tangent(self, g: Any) -> Any:
        """Return a gradient by the numbers as one by v."""
        return _times(self.basis, g, self.inexact)

    def project(self, step: Floats) -> Floats:
        """Return the part of a step that keeps to the group, to first order."""
        projected: Floats = np.einsum("...ij,...j->...i", self.basis @ self.inverse, step)
        return projected

    def move(self, at: Floats, step: Floats) -> Floats:
        """Move elements by a step along the group."""
        if self.retract is not None:
            return self.retract(at, np.einsum("...ij,...j->...i", self.inverse, step))
        moved, count = at + step, at.shape[-1]
        moved[..., _unit_part(count)] /= np.linalg.norm(
            moved[..., _unit_part(count)], axis=-1, keepdims=True
        )
        if count in _SCALED:
            moved[..., -1] = at[..., -1] * np.exp(step[..., -1] / at[..., -1])
        return moved

    def holds(self, g: Floats) -> bool:
        """Whether a gradient is of the kind that is by v: it has no other components."""
        if self.retract is None:
            return not g[..., -1].any()
        apart = np.max(np.abs(self.to_tangent(self.to_numbers(g)) - g), initial=0.0)
        return bool(apart <= 2.0**-20 * np.max(np.abs(g), initial=0.0))


@dataclass(frozen=True)
class Kinds:
    """Which gradients are by v: what was sent, and what arrived for which results."""

    operand: bool
    results: tuple[int, ...]
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Convention:
    """One reading of a function's gradients: which of them are by v, and which by the numbers.

    Attributes
    ----------
    operand : Chart or None
    results : mapping of int to Chart
    beside : float
        How far other operands with gradients by v are off their groups: no gradient of the function
        is right to more than that.
    """

    operand: Chart | None
    results: Mapping[int, Chart]
    beside: float = 0.0

    @property
    def inexact(self) -> float:
        """How far gradients that are translated may be off, relative to them."""
        charts = [*([self.operand] if self.operand else []), *self.results.values()]
        return self.beside + sum(chart.inexact for chart in charts)

    @property
    def kinds(self) -> Kinds:
        """The same in words, without the numbers."""
        charts = [*([self.operand] if self.operand else []), *self.results.values()]
        if not charts:
            return Kinds(
                False,
                (),
                f"to the {self.beside / _APART:.1g} by which elements are off their group",
            )
        names = " and ".join(dict.fromkeys(chart.name for chart in charts))
        how = "as declared" if charts[0].retract else "left perturbation"
        words = f"along tangent directions of {names} ({how})"
        return Kinds(self.operand is not None, tuple(self.results), words)


def conventions(
    operand: Pair,
    results: Sequence[Pair | None],
    unit: float,
    retracts: tuple[Retract | None, Retract | None] = (None, None),
    others: Sequence[Pair] = (),
) -> Iterator[Convention]:
    """Yield the conventions to which elements and their gradients keep, but the plain one.

    Parameters
    ----------
    operand : tuple of ndarray
        The operand and what was sent to it.
    results : sequence of (tuple or None)
        Each result and what arrived for it.
    unit : float
        The unit roundoff of the coarsest.
    retracts : tuple of (callable or None)
        What the program declared to move the operand, and the results.
    others : sequence of tuple
        Other operands and what was sent to them.
    """
    of_operand = _chart(*operand, unit, retracts[0])
    charts = [None if pair is None else _chart(*pair, unit, retracts[1]) for pair in results]
    of_results = {k: chart for k, chart in enumerate(charts) if chart is not None}
    beside = max([_off_unit(at) for at, g in others if _chart(at, g, unit, None)], default=0.0)
    for chart in (of_operand, None) if of_operand else (None,):
        for charted in (of_results, {}) if of_results else ({},):
            convention = Convention(chart, charted, _APART * beside if beside > _EXACT else 0.0)
            if convention.inexact:
                yield convention


def _chart(at: Floats, g: Floats, unit: float, retract: Retract | None) -> Chart | None:
    if (
        g.shape != at.shape
        or not at.ndim
        or not at.size
        or not (np.isfinite(at).all() and np.isfinite(g).all())
    ):
        return None
    if retract is not None:
        basis, name, off = _by_differences(retract, at), "a retraction", _BY_DIFFERENCES
    else:
        name = "" if g[..., -1:].any() else element(at, unit)
        if not name:
            return None
        basis, off = _basis(at), _APART * _off_unit(at) + 2.0**-50
    if not np.isfinite(basis).all():
        return None
    inverse: Any = np.linalg.pinv(basis)
    chart = Chart(name, at, basis, inverse, off, retract)
    return chart if chart.holds(g) else None


def element(at: Floats, unit: float) -> str:
    """Return the group of which all rows of an array are elements; empty if there is none."""
    name = _GROUPS.get(at.shape[-1], "")
    if not name or _off_unit(at) > _ROUNDINGS * max(unit, _FLOAT32):
        return ""
    return "" if at.shape[-1] in _SCALED and np.any(at[..., -1] <= 0) else name


def _unit_part(count: int) -> slice:
    """Return where the unit complex number or quaternion stands."""
    start = 3 if count > 5 else 0
    return slice(start, start + min(count, 4))


def _off_unit(at: Floats) -> float:
    norms = np.linalg.norm(at[..., _unit_part(at.shape[-1])], axis=-1)
    return float(np.max(np.abs(norms - 1), initial=0.0))


def _basis(x: Floats) -> Floats:
    """Return E(x): the derivatives of exp(v) x at v = 0, a column for each component of v."""
    count = x.shape[-1]
    basis = np.zeros((*x.shape, count))
    if count == 2:
        basis[..., 0, 0], basis[..., 1, 0] = -x[..., 1], x[..., 0]
        return basis
    unit = _unit_part(count)
    turn = slice(unit.start, unit.start + 3)
    u, w = x[..., turn], x[..., unit.stop - 1]
    # The quaternion (v, 0) (u, w) / 2 = (w v - u x v, -u v) / 2.
    basis[..., turn, turn] = (w[..., None, None] * np.eye(3) - _cross(u)) / 2
    basis[..., unit.stop - 1, turn] = -u / 2
    if unit.start:
        basis[..., :3, :3] = np.eye(3)
        basis[..., :3, turn] = -_cross(x[..., :3])
    if count in _SCALED:
        basis[..., :3, count - 2] += x[..., :3] if unit.start else 0
        basis[..., -1, count - 2] = x[..., -1]
    return basis


def _cross(u: Floats) -> Floats:
    """Return the matrices of u x."""
    return np.stack([np.cross(u, axis) for axis in np.eye(3)], axis=-1)


def _by_differences(retract: Retract, at: Floats) -> Floats:
    def along(v: Floats) -> Floats:
        def slope(h: float) -> Floats:
            ahead, behind = retract(at, h * v), retract(at, -h * v)
            return np.asarray((ahead - behind) / (2 * h))

        return (64 * slope(_STEP / 4) - 20 * slope(_STEP / 2) + slope(_STEP)) / 45

    axes = np.eye(at.shape[-1])
    return np.stack([along(np.broadcast_to(axis, at.shape)) for axis in axes], axis=-1)


def _times(matrices: Any, g: Any, inexact: float) -> Any:
    """Return the transposed matrices times vectors, with what their inexactness adds."""
    if isinstance(g, Bounded):
        largest = np.max(np.abs(matrices), axis=(-1, -2), keepdims=True)
        off = np.broadcast_to(inexact * largest, matrices.shape)
        matrices = Bounded(matrices, g.arithmetic, off, off)
    return np.einsum("...ji,...j->...i", matrices, g)
