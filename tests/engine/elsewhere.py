"""The rules' samples and recorded programs, evaluated on arrays that are not NumPy's."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from gradwitness.capture.memory import balance, storages, values
from gradwitness.capture.memory.arrays import as_array
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.forward import evaluate
from gradwitness.rules import find
from rules.harness import make
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from gradwitness.tape import Tape
    from rules.harness import Case
    from rules.samples import Sample

    # Puts the numbers of a NumPy array elsewhere.
    Put = Callable[[Any], Any]


def by_rule() -> dict[str, list[Sample]]:
    """Return the samples of each rule."""
    samples = defaultdict(list)
    for sample in SAMPLES:
        rule = find(make(sample).call.base_op)
        assert rule is not None
        samples[rule.name].append(sample)
    return dict(samples)


def moved(tape: Tape, put: Put) -> Tape:
    """Return a tape whose arrays are elsewhere."""
    numbers = (v if v.array is None else replace(v, array=put(v.array)) for v in tape.values)
    return replace(tape, values=tuple(numbers))


@contextmanager
def recorded_elsewhere(put: Put) -> Iterator[None]:
    """Hand a program's tensors over as those of a device are, in the arrays of its library."""

    def handed_over(tensor: torch.Tensor) -> Any:
        array = as_array(tensor)
        return None if array is None else put(array)

    with (
        # No memory of a device is the host's.
        mock.patch.object(values, "lying_in", return_value=None),
        mock.patch.object(storages, "handed_over", handed_over),
        mock.patch.object(balance, "handed_over", handed_over),
    ):
        yield


def evaluated(case: Case, put: Put) -> Iterator[tuple[Any, Any]]:
    """Yield each value and gradient of a sample as it comes elsewhere, and as it does in NumPy."""
    tapes, call = (moved(case.tape, put), case.tape), case.call
    if call.operands:  # else nothing says where
        yield from paired(*(evaluate(t, call, recorded(t), bounded=False) for t in tapes))
    wanted = [name in case.differentiable for name in case.inputs()]
    if any(wanted):
        gs = [None if g is None else put(g) for g in case.cotangents], case.cotangents
        yield from paired(
            *(vjp(t, call, g, recorded(t), None, wanted) for t, g in zip(tapes, gs, strict=True))
        )


def paired(made: Any, expected: Any) -> Iterator[tuple[Any, Any]]:
    """Yield results beside what they should be, those in lists too; where there is none, none."""
    for one, other in zip(_members(made), _members(expected), strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            yield one, other


def _members(results: Any) -> Iterator[Any]:
    if isinstance(results, (tuple, list)):
        for result in results:
            yield from _members(result)
    else:
        yield results
