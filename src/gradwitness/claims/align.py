"""Which claim is about which parameter, and which run goes with which."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import InputError
from gradwitness.claims.layout import kernel_order, turned
from gradwitness.claims.names import Name, by_kind, by_rank, is_kernel, light_key, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from gradwitness.claims.claim import Claim, Claims, Run

    Shapes = Mapping[str, tuple[int, ...]]

# What programs print beside gradients.
_OTHER = re.compile(r"(?i)\b(?:loss|pred(?:iction)?s?|target|lr|learning[ _]rate|epoch|accuracy)\b")


@dataclass(frozen=True)
class Alignment:
    """Which claim is about which parameter.

    Attributes
    ----------
    pairs : dict of str to Claim
        By the reference's names, in its order; each claim in the reference's shape if only axes of
        size 1 differ.
    unclaimed : tuple of str
        Of the reference, what no claim is about.
    unknown : tuple of Claim
        Claims about nothing in the reference.
    notes : tuple of str
        Each match that was not by the name itself, and each that was too doubtful to make.
    """

    pairs: dict[str, Claim]
    unclaimed: tuple[str, ...]
    unknown: tuple[Claim, ...]
    notes: tuple[str, ...]


@dataclass
class _Matching:
    """The state of the search: names that are still free on either side."""

    run: Run
    shapes: Shapes
    found: dict[str, str] = field(default_factory=dict)  # reference's name to claim's name
    notes: list[str] = field(default_factory=list)

    @property
    def claims(self) -> list[str]:
        taken = set(self.found.values())
        return [name for name in self.run if name not in taken]

    @property
    def wanted(self) -> list[str]:
        return [name for name in self.shapes if name not in self.found]

    def fits(self, pairs: Iterable[tuple[str, str]]) -> bool:
        return all(fits(self.run[claim], self.shapes[name]) for name, claim in pairs)

    def may_fit(self, pairs: Iterable[tuple[str, str]]) -> bool:
        """Whether all shapes fit, a weight in the other layout (transposed) included."""
        for name, claim in pairs:
            transposed = replace(self.run[claim], array=self.run[claim].array.T, gaps=())
            layouts = (self.run[claim], transposed, self.as_kernel(name, claim))
            if not any(layout and fits(layout, self.shapes[name]) for layout in layouts):
                return False
        return True

    def as_kernel(self, name: str, claim: str) -> Claim | None:
        """Return what is called a kernel on that side only in PyTorch's layout, or None."""
        axes = self.run[claim].array.ndim
        if axes < 2 or not is_kernel(claim) or is_kernel(name):
            return None
        return turned(self.run[claim], kernel_order(axes))

    def axes(self, name: str) -> int:
        return len(self.shapes[name]) if name in self.shapes else self.run[name].array.ndim

    def accept(self, pairs: Mapping[str, str], why: str) -> None:
        for name, claim in pairs.items():
            self.found[name] = claim
            if why:
                self.notes.append(f"{claim!r} was taken for {name}: {why}")


def align(run: Run, shapes: Shapes) -> Alignment:
    """Find which claim is about which parameter.

    By names first, then by what the names mean, then by the order of the layers, at last by the
    order alone. What is ambiguous is left alone, and a note says so. Kernels as Flax and Keras have
    them are brought to PyTorch's layout where a shape proves theirs; a note says so of each.

    Parameters
    ----------
    run : Run
    shapes : mapping of str to tuple of int
        The reference's names and shapes, in the order of the forward pass.

    Returns
    -------
    Alignment
    """
    state = _Matching(run, shapes)
    state.accept({name: name for name in shapes if name in run}, "")
    state.accept(_unique(state, light_key), "the same words")
    _by_meaning(state)
    _by_order(state)
    turned_ones = _kernels(state)
    pairs = {
        name: _reshaped(turned_ones.get(name, run[state.found[name]]), shape)
        for name, shape in shapes.items()
        if name in state.found
    }
    unknown = tuple(run[name] for name in state.claims)
    return Alignment(pairs, tuple(state.wanted), unknown, tuple(state.notes))


def _kernels(state: _Matching) -> dict[str, Claim]:
    """Return the kernels in PyTorch's layout, if they are in that of Flax and Keras.

    A source has one layout. It is theirs if a shape proves it: if a kernel fits when its axes are
    put in PyTorch's order, and not as it is. A kernel that fits both ways goes with the others.
    """
    both = {
        name: (fits(state.run[claim], state.shapes[name]), kernel, fits(kernel, state.shapes[name]))
        for name, claim in state.found.items()
        if (kernel := state.as_kernel(name, claim)) is not None
    }
    if any(as_is and not other for as_is, _, other in both.values()):
        return {}
    proved = [name for name, (as_is, _, other) in both.items() if other and not as_is]
    open_ones = [name for name, (as_is, _, other) in both.items() if other and as_is]
    if not proved:
        if open_ones:
            state.notes.append(
                f"{', '.join(open_ones)}: a kernel of Flax or Keras is (in, out), and PyTorch's "
                "weight (out, in); both fit these shapes, and they were taken as they are. If "
                "they are (in, out), transpose them first."
            )
        return {}
    found = [*proved, *open_ones]
    for name in found:
        claim = state.found[name]
        order = kernel_order(state.run[claim].array.ndim)
        why = (
            "as its shape shows" if name in proved else f"its shape fits both; so is {proved[0]}'s"
        )
        state.notes.append(
            f"{claim!r} is laid out as in Flax and Keras ({why}): its axes were put in "
            f"the order {order} for {name}"
        )
    return {name: both[name][1] for name in found}


def _unique(state: _Matching, key: Callable[[str], Hashable]) -> dict[str, str]:
    """Match names whose keys are equal, and equal to no other on either side."""
    sides = []
    for names in (state.wanted, state.claims):
        by_key: dict[Hashable, list[str]] = {}
        for name in names:
            by_key.setdefault(key(name), []).append(name)
        sides.append(
            {k: found[0] for k, found in by_key.items() if len(found) == 1 and k is not None}
        )
    wanted, claims = sides
    return {name: claims[k] for k, name in wanted.items() if k in claims}


def _by_meaning(state: _Matching) -> None:
    """Match weights and biases by their layers: by number, or by rank from first to last."""
    claims = [name for name in state.claims if parsed(name).role]
    if not claims:
        return
    by_number = _unique(state, _number_key)
    if set(by_number.values()) != set(claims) or not state.may_fit(by_number.items()):
        by_number = {}
    ranked = by_rank(state.wanted, claims) or by_kind(state.wanted, claims, state.axes)
    if ranked and not state.may_fit(ranked.items()):
        # One claim of a wrong shape may well be the fault that is looked for; two are no match.
        wrong = [pair for pair in ranked.items() if not state.may_fit([pair])]
        ranked = ranked if len(wrong) == 1 and not by_number else {}
    if by_number and ranked and by_number != ranked:
        one, other = next((n, ranked.get(n)) for n in by_number if by_number[n] != ranked.get(n))
        state.notes.append(
            f"{by_number[one]!r} may be {one} by its number, but {other!r} would be by the order "
            "of the layers: not matched. Give the claims the parameters' names."
        )
        return
    if by_number and not ranked:
        for shifted in (_shifted(state, by_number, -1), _shifted(state, by_number, 1)):
            if shifted and state.fits(shifted.items()):
                state.notes.append(
                    "layers may be counted from 0 or from 1, and the shapes fit either: "
                    f"{', '.join(map(repr, by_number.values()))} not matched"
                )
                return
    if ranked:
        state.accept(ranked, "layer by layer, from the first to the last")
    else:
        state.accept(by_number, "the same layer's number")


def _number_key(name: str) -> Hashable:
    meaning: Name = parsed(name)
    return (meaning.role, meaning.numbers) if meaning.role and meaning.numbers else None


def _shifted(state: _Matching, pairs: Mapping[str, str], by: int) -> dict[str, str]:
    """Match claims to layers with another number; empty if some layer is not there."""
    places = {_number_key(name): name for name in state.wanted}
    found: dict[str, str] = {}
    for claim in pairs.values():
        meaning = parsed(claim)
        numbers = (*meaning.numbers[:-1], meaning.numbers[-1] + by)
        if (meaning.role, numbers) not in places:
            return {}
        found[places[meaning.role, numbers]] = claim
    return found


def _by_order(state: _Matching) -> None:
    """Match all that is left in order, if every shape fits, and fits in no other order."""
    wanted = state.wanted
    claims = [name for name in state.claims if not _OTHER.search(name)]
    if not wanted or not claims:
        return
    roles_differ = any(
        parsed(n).role and parsed(c).role and parsed(n).role != parsed(c).role
        for n, c in zip(wanted, claims, strict=False)
    )
    forwards = len(wanted) == len(claims) and state.fits(zip(wanted, claims, strict=True))
    backwards = len(wanted) == len(claims) and state.fits(zip(wanted, claims[::-1], strict=True))
    if forwards and (not backwards or len(claims) == 1) and not roles_differ:
        state.accept(dict(zip(wanted, claims, strict=True)), "the same place in order and shape")
    elif backwards and not forwards:
        pairs = dict(zip(wanted, claims[::-1], strict=True))
        state.accept(pairs, "the same place in reverse order, and shape")
    else:
        why = (
            "their shapes fit in more than one order"
            if forwards and backwards
            else f"{len(wanted)} parameters are left, and order and shapes do not fit"
        )
        shown = ", ".join(repr(name) for name in claims[:3]) + (", ..." if len(claims) > 3 else "")
        state.notes.append(
            f"{len(claims)} claims were not matched ({shown}): {why}. "
            "Give the claims the parameters' names."
        )


def fits(claim: Claim, shape: tuple[int, ...]) -> bool:
    """Whether a claim has a parameter's shape, but for axes of size 1 and what was left out."""
    return _axes(claim, shape) is not None


def _axes(claim: Claim, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
    """Return the gaps in the axes of ``shape``, or None if the claim cannot be brought to it."""
    gaps = claim.gaps or (None,) * claim.array.ndim
    mine = [(n, gap) for n, gap in zip(claim.array.shape, gaps, strict=True) if n != 1 or gap]
    places = [axis for axis, n in enumerate(shape) if n != 1]
    if len(mine) != len(places):
        return None
    out: list[int | None] = [None] * len(shape)
    for (n, gap), axis in zip(mine, places, strict=True):
        if n >= shape[axis] if gap is not None else n != shape[axis]:
            return None
        out[axis] = gap
    return tuple(out)


def _reshaped(claim: Claim, shape: tuple[int, ...]) -> Claim:
    gaps = _axes(claim, shape)
    if gaps is None or claim.array.ndim == len(shape):
        return claim
    sizes = iter(n for n in claim.array.shape if n != 1)
    target = tuple(1 if n == 1 else next(sizes) for n in shape)
    if np.prod(target) != claim.array.size:
        return claim
    rounding = claim.rounding
    if isinstance(rounding, np.ndarray):
        rounding = rounding.reshape(target)
    return replace(
        claim,
        array=claim.array.reshape(target),
        rounding=rounding,
        gaps=gaps if claim.gaps else (),
    )


def align_runs(a: Claims, b: Claims) -> tuple[tuple[int, int], ...]:
    """Find which run of one source goes with which of another.

    As many runs: in order. One run: it goes with each. Otherwise each run of the smaller source
    goes with the one run of the other that has the same names and shapes.

    Returns
    -------
    tuple of (int, int)
        Places in ``a.runs`` and ``b.runs``.

    Raises
    ------
    InputError
        If that is not clear.
    """
    first, second = len(a.runs), len(b.runs)
    if first == second:
        return tuple((i, i) for i in range(first))
    if 1 in (first, second):
        return tuple((i, j) for i in range(first) for j in range(second))
    looks_a = [_look(run) for run in a.runs]
    looks_b = [_look(run) for run in b.runs]
    pairs = tuple(
        (i, looks_b.index(look))
        for i, look in enumerate(looks_a)
        if looks_a.count(look) == looks_b.count(look) == 1
    )
    if len(pairs) == min(first, second):
        return pairs
    raise InputError(
        f"{a.source} has {first} runs and {b.source} has {second}, and which goes with which is "
        "not clear. Give files with one run each, or with equally many."
    )


def _look(run: Run) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, claim.array.shape) for name, claim in run.items()))
