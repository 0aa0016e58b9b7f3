"""Match claims to parameters, and the runs of two sources to each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import InputError
from gradwitness._printable import listed, several
from gradwitness.claims.layout import is_merged, kernel_order, permuted
from gradwitness.claims.names import Name, by_kind, by_rank, is_kernel, light_key, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from gradwitness.claims.claim import Claim, Claims, Run

    Shapes = Mapping[str, tuple[int, ...]]

# What programs print apart from gradients.
_OTHER = re.compile(r"(?i)\b(?:loss|pred(?:iction)?s?|target|lr|learning[ _]rate|epoch|accuracy)\b")


@dataclass(frozen=True)
class Alignment:
    """Which claim is about which parameter."""

    # By the reference's names, in its order; each claim in the reference's shape if only axes of
    # size 1 differ.
    pairs: dict[str, Claim]
    unclaimed: tuple[str, ...]  # names in the reference without a claim
    unknown: tuple[Claim, ...]  # claims that match nothing in the reference
    # Matches that were not by identical names, and those too ambiguous to make.
    notes: tuple[str, ...]
    layouts: tuple[str, ...]  # how the claims were brought to the reference's layout


@dataclass
class _Matching:
    """The state of the search: matches so far, and the unmatched names of either side."""

    run: Run
    shapes: Shapes
    matches: dict[str, str] = field(default_factory=dict)  # reference's name to claim's name
    notes: list[str] = field(default_factory=list)
    layouts: list[str] = field(default_factory=list)

    @property
    def claims(self) -> list[str]:
        matched = set(self.matches.values())
        return [name for name in self.run if name not in matched]

    @property
    def references(self) -> list[str]:
        return [name for name in self.shapes if name not in self.matches]

    def fits(self, pairs: Iterable[tuple[str, str]]) -> bool:
        return all(fits(self.run[claim], self.shapes[name]) for name, claim in pairs)

    def may_fit(self, pairs: Iterable[tuple[str, str]]) -> bool:
        """Whether all shapes fit, possibly with a weight transposed or flattened."""
        for name, claim in pairs:
            shape = self.shapes[name]
            transposed = replace(self.run[claim], array=self.run[claim].array.T, gaps=())
            layouts = (self.run[claim], transposed, self.as_kernel(name, claim))
            if not (
                any(layout and fits(layout, shape) for layout in layouts)
                or is_merged(self.run[claim].array.shape, shape)
            ):
                return False
        return True

    def as_kernel(self, name: str, claim: str) -> Claim | None:
        """Return a claim that only its own side calls a kernel in PyTorch's layout, else None."""
        axes = self.run[claim].array.ndim
        if axes < 2 or not is_kernel(claim) or is_kernel(name):
            return None
        return permuted(self.run[claim], kernel_order(axes))

    def axes(self, name: str) -> int:
        return len(self.shapes[name]) if name in self.shapes else self.run[name].array.ndim

    def accept(self, pairs: Mapping[str, str], why: str) -> None:
        for name, claim in pairs.items():
            self.matches[name] = claim
            if why:
                self.notes.append(f"matched {claim!r} to {name} ({why})")


def align(run: Run, shapes: Shapes) -> Alignment:
    """Match claims to the parameters of the reference, which come in the order of the forward pass.

    By names first, then by what the names mean, then by the order of the layers, and last by order
    alone. Ambiguous claims stay unmatched, with a note. Kernels in the layout of Flax and Keras are
    brought to PyTorch's where a shape proves that layout, each with a note.
    """
    state = _Matching(run, shapes)
    state.accept(_counted(state), "layer by layer, as a list counts them")
    left = set(state.claims)
    state.accept({n: n for n in state.references if n in left}, "")
    state.accept(_unique(state, light_key), "same words")
    _by_meaning(state)
    _by_order(state)
    kernels = _kernels(state)
    pairs = {
        name: _reshaped(kernels.get(name, run[state.matches[name]]), shape)
        for name, shape in shapes.items()
        if name in state.matches
    }
    axes = {name: run[state.matches[name]].array.ndim for name in pairs}
    if squeezed := [name for name, claim in pairs.items() if claim.array.ndim != axes[name]]:
        state.layouts.append(f"axes of length 1 were added or dropped to match {listed(squeezed)}")
    unknown = tuple(run[name] for name in state.claims)
    return Alignment(
        pairs, tuple(state.references), unknown, tuple(state.notes), tuple(state.layouts)
    )


def _counted(state: _Matching) -> dict[str, str]:
    """Match layers that a list counts, 0, 1, 2, to parameters with other numbers: 0, 2, 4.

    Some names are the same on both sides, and mean other layers.
    """
    claims = [name for name in state.claims if parsed(name).role]
    ours, theirs = ({parsed(n).numbers for n in names} for names in (state.references, claims))
    if ours == theirs or not theirs & ours or theirs != {(n,) for n in range(len(theirs))}:
        return {}
    ranked = by_rank(state.references, claims)
    return ranked if state.may_fit(ranked.items()) else {}


def _kernels(state: _Matching) -> dict[str, Claim]:
    """Return the kernels in PyTorch's layout, if the source has that of Flax and Keras.

    A source has one layout. It is that of Flax and Keras if some kernel fits only when its axes are
    put in PyTorch's order, and none only as it is. A kernel that fits both ways follows the others.
    """
    layouts = {
        name: (fits(state.run[claim], state.shapes[name]), kernel, fits(kernel, state.shapes[name]))
        for name, claim in state.matches.items()
        if (kernel := state.as_kernel(name, claim)) is not None
    }
    if any(as_is and not in_order for as_is, _, in_order in layouts.values()):
        return {}
    proven = [name for name, (as_is, _, in_order) in layouts.items() if in_order and not as_is]
    ambiguous = [name for name, (as_is, _, in_order) in layouts.items() if in_order and as_is]
    if not proven:
        if ambiguous:
            state.layouts.append(
                f"{', '.join(ambiguous)}: could be a Flax or Keras kernel (in, out) or a PyTorch "
                "weight (out, in), as both fit this shape; assuming (out, in). If that is wrong, "
                "transpose them first."
            )
        return {}
    names = [*proven, *ambiguous]
    for name in names:
        claim = state.matches[name]
        order = kernel_order(state.run[claim].array.ndim)
        why = "shown by its shape" if name in proven else f"ambiguous shape; same as {proven[0]}"
        state.layouts.append(
            f"{claim!r} has the layout of Flax and Keras ({why}): its axes were permuted by "
            f"{order} to match {name}"
        )
    return {name: layouts[name][1] for name in names}


def _unique(state: _Matching, key: Callable[[str], Hashable]) -> dict[str, str]:
    """Match names whose keys are equal, and equal to no other on either side."""
    sides = []
    for names in (state.references, state.claims):
        by_key: dict[Hashable, list[str]] = {}
        for name in names:
            by_key.setdefault(key(name), []).append(name)
        sides.append({k: same[0] for k, same in by_key.items() if len(same) == 1 and k is not None})
    references, claims = sides
    return {name: claims[k] for k, name in references.items() if k in claims}


def _by_meaning(state: _Matching) -> None:
    """Match weights and biases by their layers: by number, or by rank from first to last."""
    claims = [name for name in state.claims if parsed(name).role]
    if not claims:
        return
    by_number = _unique(state, _number_key)
    if set(by_number.values()) != set(claims) or not state.may_fit(by_number.items()):
        by_number = {}
    ranked = by_rank(state.references, claims) or by_kind(state.references, claims, state.axes)
    if ranked and not state.may_fit(ranked.items()):
        # One claim of a wrong shape may well be the fault; two are no match.
        wrong = [pair for pair in ranked.items() if not state.may_fit([pair])]
        ranked = ranked if len(wrong) == 1 and not by_number else {}
    if by_number and ranked and by_number != ranked:
        name, by_order = next(
            (n, ranked.get(n)) for n in by_number if by_number[n] != ranked.get(n)
        )
        state.notes.append(
            f"{by_number[name]!r} matches {name} by number, but {by_order!r} matches it by layer "
            "order: not matched. Give the claims the parameters' names."
        )
        return
    if by_number and not ranked:
        for shifted in (_shifted(state, by_number, -1), _shifted(state, by_number, 1)):
            if shifted and state.fits(shifted.items()):
                state.notes.append(
                    "layers may be numbered from 0 or from 1, and the shapes fit both: "
                    f"{', '.join(map(repr, by_number.values()))} not matched"
                )
                return
    if ranked:
        state.accept(ranked, "layer by layer, first to last")
    else:
        state.accept(by_number, "same layer number")


def _number_key(name: str) -> Hashable:
    meaning: Name = parsed(name)
    return (meaning.role, meaning.numbers) if meaning.role and meaning.numbers else None


def _shifted(state: _Matching, pairs: Mapping[str, str], by: int) -> dict[str, str]:
    """Match claims to layers with shifted numbers; empty if a layer is missing."""
    names = {_number_key(name): name for name in state.references}
    shifted: dict[str, str] = {}
    for claim in pairs.values():
        meaning = parsed(claim)
        numbers = (*meaning.numbers[:-1], meaning.numbers[-1] + by)
        if (meaning.role, numbers) not in names:
            return {}
        shifted[names[meaning.role, numbers]] = claim
    return shifted


def _by_order(state: _Matching) -> None:
    """Match the rest in order, if every shape fits in that order only."""
    references = state.references
    claims = [name for name in state.claims if not _OTHER.search(name)]
    if not references or not claims:
        return
    roles_differ = any(
        parsed(n).role and parsed(c).role and parsed(n).role != parsed(c).role
        for n, c in zip(references, claims, strict=False)
    )
    same_count = len(references) == len(claims)
    forwards = same_count and state.fits(zip(references, claims, strict=True))
    backwards = same_count and state.fits(zip(references, claims[::-1], strict=True))
    if forwards and (not backwards or len(claims) == 1) and not roles_differ:
        state.accept(dict(zip(references, claims, strict=True)), "same position and shape")
    elif backwards and not forwards:
        pairs = dict(zip(references, claims[::-1], strict=True))
        state.accept(pairs, "same position in reverse order, same shape")
    else:
        why = (
            "their shapes fit in more than one order"
            if forwards and backwards
            else f"{several(len(references), 'parameter is', 'parameters are')} left, but "
            + _misfit(state, references, claims)
        )
        state.notes.append(
            f"not matched: {len(claims)} claim{'s' * (len(claims) > 1)} "
            f"({listed(map(repr, claims), 3)}), as {why}. Give the claims the parameters' names."
        )


def _misfit(state: _Matching, references: list[str], claims: list[str]) -> str:
    """Say why claims do not match in order: with both shapes where there is one of each."""
    if len(references) == len(claims) == 1:
        (name,), (claim,) = references, claims
        if not state.fits([(name, claim)]):
            shape = state.run[claim].array.shape
            return f"{claim!r} has shape {shape}, and {name} has {state.shapes[name]}"
    return "order and shapes do not fit"


def fits(claim: Claim, shape: tuple[int, ...]) -> bool:
    """Whether a claim has a parameter's shape, apart from axes of size 1 and omitted entries."""
    return _axes(claim, shape) is not None


def _axes(claim: Claim, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
    """Return the gaps along the axes of ``shape``, or None if the claim does not fit it."""
    gaps = claim.gaps or (None,) * claim.array.ndim
    sizes = [(n, gap) for n, gap in zip(claim.array.shape, gaps, strict=True) if n != 1 or gap]
    axes = [axis for axis, n in enumerate(shape) if n != 1]
    if len(sizes) != len(axes):
        return None
    gaps_here: list[int | None] = [None] * len(shape)
    for (n, gap), axis in zip(sizes, axes, strict=True):
        if n >= shape[axis] if gap is not None else n != shape[axis]:
            return None
        gaps_here[axis] = gap
    return tuple(gaps_here)


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
    """Pair the runs of two sources, by index; raise `InputError` if the pairing is ambiguous.

    Equally many are paired in order, and a single run with each. Otherwise each run of the smaller
    source goes with the only run of the other that has the same names and shapes.
    """
    first, second = len(a.runs), len(b.runs)
    if first == second:
        return tuple((i, i) for i in range(first))
    if 1 in (first, second):
        return tuple((i, j) for i in range(first) for j in range(second))
    signatures_a = [_signature(run) for run in a.runs]
    signatures_b = [_signature(run) for run in b.runs]
    pairs = tuple(
        (i, signatures_b.index(signature))
        for i, signature in enumerate(signatures_a)
        if signatures_a.count(signature) == signatures_b.count(signature) == 1
    )
    if len(pairs) == min(first, second):
        return pairs
    raise InputError(
        f"{a.source} has {first} runs and {b.source} has {second}, and the pairing is ambiguous. "
        "Use files with one run each, or with equally many."
    )


def _signature(run: Run) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, claim.array.shape) for name, claim in run.items()))
