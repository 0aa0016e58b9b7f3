"""The global pass: forward and backward from the leaves, in float64, by the rules alone.

Memory is replayed as memory: each piece of a storage is one float64 buffer, a value is a strided
window into it, a view costs nothing and an in-place write shows in every view of the same memory.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import Lookup, recorded
from gradwitness.engine.custom_forwards import handed_out, unseen_in
from gradwitness.engine.floats import is_complex, is_inexact, wide
from gradwitness.engine.forward import evaluate
from gradwitness.engine.storage_spans import Piece, pieces
from gradwitness.rules.declarations import meant_hooks
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.rules.surrogates import is_declared
from gradwitness.tape import LEAVING, Call, Kind, Node, Tape, references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from gradwitness.tape import NodeRun, Sweep

    # From the change of the gradients that arrive at a node to the change of those that it sends.
    Instead: TypeAlias = Callable[[list[Any]], Sequence[NDArray[np.float64] | None]]


@dataclass(frozen=True)
class Replay:
    """A whole recording, recomputed by the witness in float64.

    Attributes
    ----------
    values, arriving : dict
        Forward values by their number on the tape; gradients by backward pass, node and its input.
    trusted : tuple of str
        Operations without a rule, whose recorded results were used as they are.
    """

    values: dict[int, NDArray[np.float64]]
    arriving: dict[tuple[int, int, int], NDArray[np.float64]]
    trusted: tuple[str, ...]

    def gradient(self, sweep: int, node: int, index: int = 0) -> NDArray[np.float64] | None:
        """Return the gradient that arrives at an input of a node, or None if there is none."""
        return self.arriving.get((sweep, node, index))

    def digits(
        self, sweep: int, input_nr: tuple[int, int], recorded_gradient: NDArray[Any] | None
    ) -> float:
        """Return how many decimal digits of a recorded gradient the replay confirms.

        See `confirmed_digits`; nan where either side has nothing.
        """
        reference = self.arriving.get((sweep, *input_nr))
        if reference is None or recorded_gradient is None or reference.size == 0:
            return math.nan
        return confirmed_digits(recorded_gradient, reference)


def confirmed_digits(record: NDArray[Any], reference: NDArray[np.float64]) -> float:
    """Return how many decimal digits of a record a reference confirms, normwise.

    -log10 of the largest difference over the largest entry: inf where they are equal, nan where the
    reference is all zeros and the record is not, or where a difference is not finite.
    """
    largest = float(np.max(np.abs(reference)))
    with np.errstate(invalid="ignore"):
        gap = float(np.max(np.abs(wide(record) - reference)))
    if gap == 0:
        return math.inf
    return -math.log10(gap / largest) if largest and math.isfinite(gap) else math.nan


class Steps:
    """How a replay takes its steps: by the rules, in float64."""

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute a call's results."""
        return evaluate(tape, call, lookup, bounded=False)

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        return gradients(tape, node, incoming, lookup, None, precise=True)

    def total(self, tape: Tape, node: int, before: Any, g: Any) -> Any:
        """Add a gradient to those that have already arrived at a node."""
        del tape, node
        return before + g


_EXACT = Steps()
_BY_HOOK = "what a hook sends is declared, not derived"


def replay(
    tape: Tape,
    leaves: Mapping[int, NDArray[np.float64]] | None = None,
    steps: Steps = _EXACT,
) -> Replay:
    """Recompute a recording forward and backward in float64.

    Parameters
    ----------
    tape : Tape
    leaves : mapping of int to ndarray, optional
        Other values for tensors that came from outside, by their number on the tape.
    steps : Steps, optional
        How each step is computed. By default by the rules, in float64.

    Returns
    -------
    Replay

    Examples
    --------
    float32 loses 1e-8 beside 1; the replay keeps it:

    >>> import torch
    >>> import gradwitness
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> with gradwitness.watch(names={"w": w}) as witness:
    ...     ((w + 1e-8) * w).sum().backward()
    >>> (row,) = witness.report.rows
    >>> print(w.grad.item(), gradwitness.replay(witness.tape).gradient(row.sweep, row.node)[0])
    2.0 2.00000001
    """
    memory = _Memory(tape, leaves or {}, steps)
    trusted = [reason for call in tape.calls if (reason := memory.run(call))]
    arriving: dict[tuple[int, int, int], Any] = {}
    for number in range(len(tape.sweeps)):
        received, unruled = backward_pass(tape, number, memory.values, steps=steps)
        arriving |= {(number, *input_nr): g for input_nr, g in received.items()}
        trusted += unruled
    return Replay(memory.values, arriving, tuple(trusted))


# A recording says how far apart the numbers of a view lay: to lay them out like that takes at most
# so many numbers for each that it holds, or so many in all.
_MOST_GROWTH = 100
_ALWAYS_ALLOWED = 1 << 25


@dataclass
class _Memory:
    """The memory of a tape as float64 buffers, NaN where nothing has been written yet."""

    tape: Tape
    leaves: Mapping[int, NDArray[np.float64]]
    steps: Steps
    buffers: dict[Piece, NDArray[np.float64]] = field(default_factory=dict)
    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    windows: dict[Piece, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pieces = pieces(v for v in self.tape.values if is_inexact(v.dtype))
        held = sum(v.array.size for v in self.tape.values if v.array is not None)
        self._most = max(_MOST_GROWTH * held, _ALWAYS_ALLOWED)
        # Backward passes write to `.grad` between the calls.
        self._unseen = {
            leaf.after for sweep in self.tape.sweeps for leaf in sweep.leaves if leaf.after
        }
        # So do hooks within a pass: an optimizer that steps there.
        self._unseen.update(_rewritten_unseen(self.tape))

    def run(self, call: Call) -> str:
        """Run one call; return why its result was taken from the record, or an empty string."""
        operands = call.operands
        viewed = [n for n in call.outputs if n is not None] if call.is_view else []
        # The memory of a lazy view holds other numbers: it is computed.
        lazy = any(self._is_lazy(n) for n in viewed)
        try:
            for number in operands + (viewed if not lazy else []):
                self.read(number)
        except Unjudgeable as reason:
            return str(reason)
        if call.is_view and not lazy:
            return ""
        trusted = ""
        if call.base_op in SOURCES:
            results: tuple[Any, ...] = tuple(map(self._from_record, call.outputs))
        else:
            try:
                results = self.steps.forward(self.tape, call, self.read)
            except Unjudgeable as reason:
                trusted = str(reason)
                results = tuple(map(self._from_record, call.outputs))
        for output, result in zip(call.outputs, results, strict=True):
            if output is not None and result is not None:
                self.write(output, result, in_place=bool(call.writes))
        for number in _undeclared_writes(call):
            self.forget(number)
        return trusted

    def _is_lazy(self, number: int) -> bool:
        value = self.tape.values[number]
        return is_inexact(value.dtype) and value.layout is None and value.array is not None

    def _from_record(self, number: int | None) -> Any:
        return None if number is None else _recorded_or_none(self.tape, number)

    def read(self, number: int) -> NDArray[Any]:
        """Return a value as it is now; elements not written yet come from the record."""
        if number in self.values:
            return self.values[number]
        if number not in self._pieces:
            self.values[number] = recorded(self.tape)(number)
            return self.values[number]
        if number in self._unseen:
            self.write(number, recorded(self.tape)(number), in_place=True)
            return self.values[number]
        window = self._window(number)
        missing = np.isnan(window)
        if missing.any():
            source = self.leaves.get(number)
            source = recorded(self.tape)(number) if source is None else source
            window[missing] = source[missing]
        return window

    def write(self, number: int, result: NDArray[Any], *, in_place: bool) -> None:
        """Store a call's result."""
        if number not in self._pieces:
            self.values[number] = np.asarray(result)
            return
        if in_place:
            # Older values of this memory keep their numbers.
            for older in self.windows.pop(self._pieces[number], ()):
                self.values[older] = self.values[older].copy()
        self._window(number)[...] = result

    def forget(self, number: int) -> None:
        """Read a value's memory from the record from now on; the value itself stays."""
        if number in self._pieces:
            numbers = self.values[number].copy()
            self.write(number, np.full(numbers.shape, np.nan), in_place=True)
            self.values[number] = numbers

    def _window(self, number: int) -> NDArray[np.float64]:
        value, piece = self.tape.values[number], self._pieces[number]
        layout = value.layout
        assert layout is not None  # noqa: S101 (it lies in a piece)
        buffer = self.buffers.get(piece)
        if buffer is None:
            if piece.end - piece.start > self._most:
                raise Unjudgeable("few of the numbers of a large tensor are recorded")
            buffer = np.full(piece.end - piece.start, np.nan)
            self.buffers[piece] = buffer
        reals = 2 if is_complex(value.dtype) else 1
        strides = tuple(8 * reals * s for s in layout.strides)
        begin = buffer[reals * layout.offset - piece.start :]
        window = (
            np.ndarray(value.shape, np.complex128, begin, 0, strides)
            if reals == 2
            else as_strided(begin, value.shape, strides)
        )
        self.values[number] = window
        self.windows.setdefault(piece, []).append(number)
        return window


def _rewritten_unseen(tape: Tape) -> Iterator[int]:
    """Yield values in the place of an earlier one where no recorded call has written since."""
    outputs = {n for call in tape.calls for n in call.outputs}
    written: dict[int, list[int]] = {}
    for call in tape.calls:
        for number in call.outputs if call.writes else ():
            layout = None if number is None else tape.values[number].layout
            if number is not None and layout is not None:
                written.setdefault(layout.storage, []).append(number)
    before: dict[tuple[object, ...], int] = {}
    for value in tape.values:
        if value.layout is None:
            continue
        location = (value.layout, value.shape, value.dtype)
        last, before[location] = before.get(location), value.id
        if last is None or value.id in outputs:
            continue
        later = written.get(value.layout.storage, [])
        after = bisect_right(later, last)
        if after == len(later) or later[after] > value.id:
            yield value.id


def _undeclared_writes(call: Call) -> list[int]:
    """Return the values that a call writes, unsaid in its schema: running statistics."""
    if call.base_op != "aten.native_batch_norm" or not call.arguments["training"]:
        return []
    statistics = (call.arguments["running_mean"], call.arguments["running_var"])
    return [number for argument in statistics for number in references(argument)]


def _recorded_or_none(tape: Tape, number: int) -> NDArray[Any] | None:
    """Return a value's recorded numbers, or None where there are none."""
    try:
        return recorded(tape)(number)
    except Unjudgeable:
        return None


def _seeds(tape: Tape, sweep: Sweep) -> Iterator[tuple[tuple[int, int], Any]]:
    """Yield the roots of a pass with their gradients."""
    for edge, seed in sweep.roots:
        output = tape.nodes[edge.node].outputs[edge.index]
        ones = np.ones(() if output is None else tape.values[output].shape)
        start = ones if seed is None else _recorded_or_none(tape, seed)
        if start is not None:
            yield (edge.node, edge.index), start


def _hooked(tape: Tape, sweep: Sweep, whole: bool) -> dict[tuple[int, int], Any]:
    """Return what arrived where a hook is declared, by node and input; of a change, nothing."""
    hooks = meant_hooks(sweep)
    runs = {run.node: run.incoming for run in (sweep.node_runs if hooks else ())}
    known = {at: runs[at[0]][at[1]] for at in hooks if whole and at[0] in runs}
    found = {at: _recorded_or_none(tape, n) for at, n in known.items() if n is not None}
    return dict.fromkeys(hooks) | found


def _sent(
    tape: Tape,
    node: Node,
    incoming: list[Any],
    lookup: Lookup,
    instead: Mapping[int, Instead] | None,
    steps: Steps,
    node_run: NodeRun,
    changed: Mapping[tuple[int, int], object],
) -> Sequence[NDArray[np.float64] | None]:
    if instead is not None:
        if node.id in instead:
            return instead[node.id](incoming)
        if all(change is None for change in incoming):
            return ()
    if (node.id, 0) in changed:
        raise Unjudgeable(_BY_HOOK)
    if node.kind == Kind.CUSTOM and handed_out(tape, node) is not None:
        # The rules may follow only a part of it.
        raise Unjudgeable(f"{node.name} computes outside torch")
    if node.kind == Kind.CUSTOM and (unseen := unseen_in(tape, node, node_run)):
        raise Unjudgeable(unseen)
    if node.kind == Kind.CUSTOM and is_declared(node.name):
        raise Unjudgeable(f"the gradient of {node.name} is declared, not derived")
    return steps.backward(tape, node, incoming, lookup)


def backward_pass(
    tape: Tape,
    number: int,
    values: Mapping[int, NDArray[Any]],
    instead: Mapping[int, Instead] | None = None,
    steps: Steps = _EXACT,
) -> tuple[dict[tuple[int, int], Any], list[str]]:
    """Run one backward pass from its roots; missing forward values come from the record.

    Where nodes send something ``instead``, the sweep carries not the gradient but its change: it
    starts at these nodes, which map the change that arrives to the change that they send; all other
    nodes, being linear, pass it on like a gradient.

    Return the gradient at each input of a node, and why recorded gradients had to be trusted: with
    ``instead`` no change passes there.
    """
    sweep = tape.sweeps[number]
    arriving: dict[tuple[int, int], Any] = {}
    hooked = _hooked(tape, sweep, instead is None)
    changed = meant_hooks(sweep, LEAVING)
    trusted = [_BY_HOOK] * len(hooked)

    def lookup(value: int) -> NDArray[Any]:
        return values[value] if value in values else recorded(tape)(value)

    def add(input_nr: tuple[int, int], g: Any) -> None:
        before = arriving.get(input_nr)
        added = g if before is None else steps.total(tape, input_nr[0], before, g)
        arriving[input_nr] = hooked.get(input_nr, added)

    for input_nr, seed in _seeds(tape, sweep) if instead is None else ():
        add(input_nr, seed)
    for node_run in sweep.node_runs:
        node = tape.nodes[node_run.node]
        if node.kind == Kind.ACCUMULATE:
            continue
        incoming = [arriving.get((node.id, k)) for k in range(len(node_run.incoming))]
        try:
            sent = _sent(tape, node, incoming, lookup, instead, steps, node_run, changed)
        except Unjudgeable as reason:
            trusted.append(str(reason))
            outgoing = node_run.outgoing if instead is None else ()
            sent = tuple(None if g is None else _recorded_or_none(tape, g) for g in outgoing)
        for target, g in zip(node.edges, sent, strict=False):
            if target is not None and g is not None:
                add((target.node, target.index), g)
    return arriving, trusted
