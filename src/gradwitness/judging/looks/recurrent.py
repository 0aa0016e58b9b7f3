"""Gradients of a recurrent layer: its gates' in float32, and what these make by projection.

Each gradient of a weight is a sum over all steps of all sequences, so none may be left out. But
only the way back through time has to be computed for it: what follows are products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.binding import bind
from gradwitness.engine.forward import run
from gradwitness.judging.looks.close import Closeness
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.step import raw, step_of
from gradwitness.judging.looks.sums import Sums
from gradwitness.rules.layers.recurrent import in_time, lstm, to_gates
from gradwitness.tape import Call, Ref, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.looks.products import Products
    from gradwitness.judging.looks.step import Step


def is_recurrent(step: Step, sent: Mapping[str, Value]) -> bool:
    """Whether a step is a recurrent layer's that ran in float32, as did what it sent."""
    read = (*step.operands.values(), *sent.values(), *step.outputs[:3])
    return step.rule is lstm and all(v is not None and v.dtype == "float32" for v in read)


def through_time(
    tape: Tape,
    step: Step,
    arrived: Sequence[Value | None],
    sent: Mapping[str, Value],
    products: Products,
) -> Iterator[tuple[str, Comparison]]:
    """Look at what was sent to the operands of a recurrent layer; yield what clearly agrees.

    float32 rounds here as often as it did there, and of that `Closeness` and `held` allow many
    times as much.
    """
    bound = bind(tape, step.call, raw(tape), arithmetic=None, for_vjp=True)
    states = step.outputs[0]
    assert states is not None  # noqa: S101 (they are float32)
    nothing = np.zeros((), np.float32)
    g = [
        np.broadcast_to(nothing, y.shape) if given is None else given.array
        for given, y in zip(arrived, step.outputs, strict=False)
        if y is not None
    ]
    read = (g, states.array, *bound.operands)
    made = run("going back through time", to_gates, *read, **bound.parameters)
    of_gates, (of_x, of_h), dh, dc = made
    rows = of_gates.reshape(-1, of_gates.shape[-1])
    factors = {"w": (rows.T, of_x), "u": (rows.T, of_h), "x": (rows, bound.operands[1])}
    sums = {"b": rows, "v": rows, "h": dh[None], "c": dc[None]}
    for name, value in sent.items():
        array = value.array
        if name == "x" and array is not None:
            array = in_time(array, bound.parameters["reverse"]).reshape(len(rows), -1)
        if array is None:
            continue
        if name in factors:
            looked = _product(*factors[name], array, products)
        else:
            near = Closeness(value, norm_of(array), Sums(len(sums[name])))
            looked = near.result() if near.take(np.sum(sums[name], axis=0)) else None
        if looked is not None:
            yield name, looked


def _product(
    a: NDArray[Any], b: NDArray[Any], made: NDArray[Any], products: Products
) -> Comparison | None:
    values = [Value(k, x.shape, "float32", x) for k, x in enumerate((a, b, made))]
    call = Call(0, "aten.mm.default", {"self": Ref(0), "mat2": Ref(1)}, (2,))
    return products.look(step_of(values, call), "", None, values[2])
