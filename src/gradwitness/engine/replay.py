"""The global pass: forward and backward from the leaves, in float64, by the rules alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._given import require_tape
from gradwitness._progress import progress
from gradwitness.engine.binding import Lookup, recorded
from gradwitness.engine.custom_forwards import handed_out, unseen_in
from gradwitness.engine.floats import chunks
from gradwitness.engine.last_uses import ForgetfulMemory
from gradwitness.engine.replay_memory import Memory, recorded_or_none
from gradwitness.engine.replay_steps import Steps
from gradwitness.rules.declarations import meant_hooks
from gradwitness.rules.surrogates import is_declared
from gradwitness.tape import LEAVING, Kind, Node, Tape

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
    largest: Any = 0.0
    gap: Any = 0.0
    with np.errstate(invalid="ignore"):
        for r, w in chunks(record, reference):
            largest, gap = np.maximum((largest, gap), (np.abs(w).max(), np.abs(r - w).max()))
    return digits_of(float(gap), float(largest))


def digits_of(gap: float, largest: float) -> float:
    """Return how many digits are right of what is so far off, as `confirmed_digits` does."""
    if gap == 0:
        return math.inf
    return -math.log10(gap / largest) if largest and math.isfinite(gap) else math.nan


def steps_of(tape: Tape) -> int:
    """Return how many steps a recording has, forward and backward."""
    return len(tape.calls) + sum(len(sweep.node_runs) for sweep in tape.sweeps)


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

    Raises
    ------
    InputError
        If ``tape`` is none.

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
    require_tape(tape, "replay")
    return replayed(Memory(tape, leaves or {}, steps))


def replayed_gradients(tape: Tape, steps: Steps = _EXACT) -> Replay:
    """Recompute a recording as `replay` does, and keep only the gradients that it hands out.

    Those of leaves, and those taken: everything else is forgotten as soon as no step needs it.
    """
    return replayed(ForgetfulMemory(tape, {}, steps), whole=False)


def replayed(memory: Memory, *, whole: bool = True) -> Replay:
    """Recompute the recording of a memory in it, by its steps; keep the ``whole`` of it."""
    tape = memory.tape
    trusted: list[str] = []
    arriving: dict[tuple[int, int, int], Any] = {}
    steps = itertools.count()
    with progress("replaying in float64", steps_of(tape)) as advance:

        def begins() -> None:
            memory.begins(next(steps))
            advance()

        for call in tape.calls:
            begins()
            trusted += filter(None, [memory.run(call)])
        for number in range(len(tape.sweeps)):
            received, unruled = backward_pass(
                tape, number, memory.values, steps=memory.steps, begins=begins, whole=whole
            )
            arriving |= {(number, *input_nr): g for input_nr, g in received.items()}
            trusted += unruled
    return Replay(memory.values, arriving, tuple(trusted))


def _seeds(tape: Tape, sweep: Sweep) -> Iterator[tuple[tuple[int, int], Any]]:
    """Yield the roots of a pass with their gradients."""
    for edge, seed in sweep.roots:
        output = tape.nodes[edge.node].outputs[edge.index]
        ones = np.ones(() if output is None else tape.values[output].shape)
        start = ones if seed is None else recorded_or_none(tape, seed)
        if start is not None:
            yield (edge.node, edge.index), start


def _hooked(tape: Tape, sweep: Sweep, whole: bool) -> dict[tuple[int, int], Any]:
    """Return what arrived where a hook is declared, by node and input; of a change, nothing."""
    hooks = meant_hooks(sweep)
    runs = {run.node: run.incoming for run in (sweep.node_runs if hooks else ())}
    known = {at: runs[at[0]][at[1]] for at in hooks if whole and at[0] in runs}
    found = {at: recorded_or_none(tape, n) for at, n in known.items() if n is not None}
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
    begins: Callable[[], None] = lambda: None,
    *,
    whole: bool = True,
) -> tuple[dict[tuple[int, int], Any], list[str]]:
    """Run one backward pass from its roots; missing forward values come from the record.

    Where nodes send something ``instead``, the sweep carries not the gradient but its change: it
    starts at these nodes, which map the change that arrives to the change that they send; all other
    nodes, being linear, pass it on like a gradient.

    Return the gradient at each input of a node (if not ``whole``, only where it is handed out: at
    leaves, and where it is taken), and why recorded gradients had to be trusted: with
    ``instead`` no change passes there.
    """
    sweep = tape.sweeps[number]
    taken = {(edge.node, edge.index) for edge, _ in sweep.captured}
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
        begins()
        node = tape.nodes[node_run.node]
        if node.kind == Kind.ACCUMULATE:
            continue
        inputs = [(node.id, k) for k in range(len(node_run.incoming))]
        incoming = [arriving.get(input_nr) for input_nr in inputs]
        try:
            sent = _sent(tape, node, incoming, lookup, instead, steps, node_run, changed)
        except Unjudgeable as reason:
            trusted.append(str(reason))
            outgoing = node_run.outgoing if instead is None else ()
            sent = tuple(None if g is None else recorded_or_none(tape, g) for g in outgoing)
        for target, g in zip(node.edges, sent, strict=False):
            if target is not None and g is not None:
                add((target.node, target.index), g)
        for input_nr in () if whole else {*inputs} - taken:
            arriving.pop(input_nr, None)
    return arriving, trusted
