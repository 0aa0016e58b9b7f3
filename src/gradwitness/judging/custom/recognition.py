"""What a gradient that is no derivative looks like, and the declaration that would say so.

A forward that only rounds or compares has the derivative 0 wherever it has one, so a backward that
sends anything else is either wrong or a surrogate. What it sent is held against the surrogates in
use; the one that fits is written down as a declaration to copy.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.custom_forwards import connects
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.judging.custom.cotangent_shapes import changes_of
from gradwitness.judging.custom.exhibit import Exhibit, Surrogate
from gradwitness.judging.custom.surrogate_shapes import one_sided, shape_of
from gradwitness.tape import OUTSIDE, Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.tape import Node, NodeRun, Tape

    Floats = NDArray[np.float64]

_STEPPING = (
    "argmax argmin bernoulli bucketize ceil eq floor floor_divide fmod ge gt heaviside le lt "
    "max min ne remainder round searchsorted sgn sign sort topk trunc"
)
_STEPS = frozenset(f"aten.{name}" for name in _STEPPING.split())
_WIDTH = 76


def advice(
    tape: Tape,
    records: Records,
    functions: Functions | None,
    node: Node,
    node_run: NodeRun,
    input_nr: int,
    right: Floats | None,
) -> str:
    """Return what a gradient that is not ``right`` looks like, with the declaration to copy.

    Empty where its forward does more than round, compare, clamp, or hand its input on.
    """
    try:
        used = connects(tape, node, input_nr)
        outside = any(tape.calls[n].op.startswith(OUTSIDE) for n in node.inner)
        steps = outside or any(tape.calls[n].base_op in _STEPS for n in node.inner)
        is_zero = right is None or not right.any()
        if functions is None or (is_zero and used and not steps):
            return ""
        function = functions.function(node.id)
        arguments = functions.arguments(node.id)
        tensors = [name for name, value in arguments.items() if isinstance(value, Ref)]
        # Torch's own, which stand for hooks or checkpoints, follow what the program does there.
        if function is None or function.__module__.startswith("torch."):
            return ""
        exhibit = _exhibit(tape, records, node, node_run, input_nr, arguments, tensors[input_nr])
        with np.errstate(all="ignore"):
            if right is not None and not is_zero:
                return _of_the_slope(function, exhibit, right)
            found = _plainest(_candidates(exhibit.thinned(), used=used or steps))
    except Exception:  # noqa: BLE001 (no verdict may depend on what is only advice)
        return ""
    if not (used or steps):
        seen = "its result does not use this input: this looks like an auxiliary loss"
    else:
        why = "runs outside torch" if outside else "only rounds or compares"
        kind = f", {found.kind}" if found else ""
        seen = f"its forward {why}: this looks like a straight-through estimator{kind}"
    return _said(seen, function, exhibit, found)


def _of_the_slope(function: type, exhibit: Exhibit, right: Floats) -> str:
    """Return what a gradient looks like whose right one is that which arrived, or a part of it."""
    asked = exhibit.g != 0
    if not exhibit.is_elementwise or not asked.any():
        return ""
    slopes = right[asked] / exhibit.g[asked]
    is_clamped = np.abs(slopes) <= exhibit.unit
    inside = slopes[~is_clamped]
    if np.ptp(inside) > 8 * exhibit.unit * abs(inside[0]):
        return ""
    if is_clamped.any():
        found = _plainest(_candidates(exhibit.thinned(), used=True))
        seen = "its forward clamps: this looks like a straight-through estimator"
        return _said(f"{seen}, {found.kind}", function, exhibit, found) if found else ""
    if abs(inside[0] - 1) > 8 * exhibit.unit:
        return ""
    found = _plainest(itertools.chain(changes_of(exhibit), _curves(exhibit.thinned())))
    seen = "its forward is the identity: this looks like"
    return _said(f"{seen} {found.kind}", function, exhibit, found) if found else ""


def _said(seen: str, function: type, exhibit: Exhibit, found: Surrogate | None) -> str:
    return f"{seen}; if it is meant:\n\n{_declaration(function, exhibit.name, found)}"


def _exhibit(
    tape: Tape,
    records: Records,
    node: Node,
    node_run: NodeRun,
    input_nr: int,
    arguments: dict[str, Any],
    name: str,
) -> Exhibit:
    x = records(arguments[name].value)
    number = node_run.outgoing[input_nr]
    gs = {k: records(n) for k, n in enumerate(node_run.incoming) if n is not None}
    # An undefined gradient stands for zeros.
    sent = np.zeros(x.shape) if number is None else records(number)
    if not gs or any(a.dtype.kind != "f" for a in (x, sent, *gs.values())):
        raise Unjudgeable("only real numbers are recognised")
    fitting = next((k for k, g in gs.items() if g.shape == sent.shape), min(gs))
    numbers = {n: v for n, v in arguments.items() if isinstance(v, int | float)}
    scalars = {n: float(v) for n, v in numbers.items() if not isinstance(v, bool)}
    others = {n: v.value for n, v in arguments.items() if isinstance(v, Ref) and n != name}
    arrays = {n: records(v) for n, v in others.items() if tape.values[v].array is not None}
    scalars |= {n: float(array.item()) for n, array in arrays.items() if array.size == 1}
    tensors = {
        n: array
        for n, array in arrays.items()
        if array.size > 1 and _spreads(array.shape, sent.shape)
    }
    dtypes = [tape.values[n].dtype for n in (number, node_run.incoming[fitting]) if n is not None]
    unit = max(unit_roundoff(dtype) for dtype in dtypes if is_inexact(dtype))
    g_name = f"g[{fitting}]" if len(node.outputs) > 1 else "g"
    return Exhibit(gs[fitting], g_name, sent, name, x, unit, scalars, tensors)


def _spreads(shape: tuple[int, ...], over: tuple[int, ...]) -> bool:
    """Whether an array of one shape can be multiplied with one of another, and gives the latter."""
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(a in (1, b) for a, b in pairs)


def _plainest(candidates: Iterator[Surrogate]) -> Surrogate | None:
    """Return the first that fits exactly, or else the one that fits best."""
    best = None
    for surrogate in candidates:
        if best is None or surrogate.tolerance < best.tolerance:
            best = surrogate
        if not best.tolerance:
            break
    return best


def _candidates(exhibit: Exhibit, *, used: bool) -> Iterator[Surrogate]:
    """Yield the surrogates that fit, the plainest first."""
    g, sent, name = exhibit.g_name, exhibit.sent, exhibit.name
    first = float(sent.flat[0]) if sent.size else 0.0
    if not used and sent.size and np.all(sent == first):
        yield Surrogate("a constant", f"{first:g}", f"np.full_like({name}, {first!r})", (name,))
    if not exhibit.is_elementwise:
        return
    yield from exhibit.fitting("the identity", exhibit.g, g, g, by_number=False)
    yield from _quantised(exhibit)
    yield from _curves(exhibit)
    if exhibit.x.ndim:
        weights = np.exp(exhibit.x - np.max(exhibit.x, axis=-1, keepdims=True))
        s = weights / weights.sum(-1, keepdims=True)
        yield from exhibit.fitting(
            "the softmax's gradient",
            s * (exhibit.g - (exhibit.g * s).sum(-1, keepdims=True)),
            "s (g - sum(g s)), s = softmax(x)",
            f"s * ({g} - ({g} * s).sum(-1, keepdims=True))",
            (name,),
            by_number=False,
        )


def _curves(exhibit: Exhibit) -> Iterator[Surrogate]:
    """Yield a factor that follows a curve over the input."""
    given = exhibit.x, exhibit.g, exhibit.sent, exhibit.scalars, exhibit.name
    g = exhibit.g_name
    for fitted in itertools.chain(shape_of(*given), one_sided(*given, g)):
        code = fitted.code.replace("g * ", f"{g} * ", 1)
        reads = (exhibit.name, *fitted.reads)
        expected = exhibit.g * fitted.values
        yield from exhibit.fitting(fitted.kind, expected, fitted.text, code, reads)


def _quantised(exhibit: Exhibit) -> Iterator[Surrogate]:
    """Yield the identity within the range of a quantisation by arguments of forward."""
    g, x, name = exhibit.g_name, exhibit.x, exhibit.name
    for scale, low, high in itertools.permutations(exhibit.scalars, 3):
        by = exhibit.scalars[scale]
        if not by or not exhibit.scalars[low] < exhibit.scalars[high]:
            continue
        q = np.round(x / by)
        inside = (q >= exhibit.scalars[low]) & (q <= exhibit.scalars[high])
        if not inside.all():
            q_text = f"np.round({name} / {scale})"
            yield from exhibit.fitting(
                "the identity within the range",
                exhibit.g * inside,
                f"{g} where {low} <= round({name} / {scale}) <= {high}",
                f"{g} * (({q_text} >= {low}) & ({q_text} <= {high}))",
                (name, scale, low, high),
                by_number=False,
            )


def approximation_of(function: type | str, off: float) -> str:
    """Return the declaration, as Python, of a function that is off by a share of its numbers."""
    written, imports = (f'"{function}"', []) if isinstance(function, str) else _named(function)
    call = f"gradwitness.approximation({written}, {2 * off:.0e})"
    return "\n".join(["import gradwitness", *imports, "", call])


def _named(function: type) -> tuple[str, list[str]]:
    """Return how a file of declarations refers to a class, and the lines that import it."""
    owner, _, inner = function.__qualname__.partition(".")
    written = function.__qualname__
    if "<locals>" in written:
        return function.__name__, [f"# in {owner}, where {function.__name__} is defined"]
    if function.__module__ == "__main__":
        return written, []
    return written, [f"from {function.__module__} import {owner if inner else written}"]


def _declaration(function: type, name: str, found: Surrogate | None) -> str:
    """Return a declaration as Python."""
    written, imported = _named(function)
    imports = ["import gradwitness", "import numpy as np", *imported]
    found = found or Surrogate("", "what it is meant to send", "g", (name,))
    arguments = [written, f'"{name}"', f'"{found.text}"']
    arguments += [f"tolerance={found.tolerance:g}"] if found.tolerance else []
    called = f"@gradwitness.surrogate({', '.join(arguments)})"
    if len(called) > _WIDTH:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        called = f"@gradwitness.surrogate(\n{lines})"
    reads = ", ".join(dict.fromkeys(("g", "y", *found.reads)))
    body = [f"    return {found.code}"]
    if "softmax" in found.text:
        weights = f"    e = np.exp({name} - {name}.max(-1, keepdims=True))"
        body = [weights, "    s = e / e.sum(-1, keepdims=True)", *body]
    return "\n".join([*imports, "", called, f"def _({reads}):", *body])
