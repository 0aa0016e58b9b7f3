"""What a gradient that is no derivative looks like, and the declaration that would say so.

A forward that only rounds or compares has the derivative 0 wherever it has one, so a backward that
sends anything else is either wrong or a surrogate. What it sent is held against the surrogates in
use; the one that fits is written down as a declaration to copy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import connects
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.judging.surrogate_shapes import shape_of
from gradwitness.tape import OUTSIDE, Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.functions import Functions
    from gradwitness.judging.records import Records
    from gradwitness.tape import Node, NodeRun, Tape

    Floats = NDArray[np.float64]

_STEPPING = (
    "argmax argmin bernoulli bucketize ceil eq floor floor_divide fmod ge gt heaviside le lt "
    "max min ne remainder round searchsorted sgn sign sort topk trunc"
)
_STEPS = frozenset(f"aten.{name}" for name in _STEPPING.split())
# What is sent may differ from a surrogate by so many roundings of the largest number.
_ROUNDINGS = 32
_WIDTH = 76
# More numbers than this tell nothing more of a curve.
_ENOUGH = 2**12


@dataclass(frozen=True)
class Surrogate:
    """A formula that fits what was sent.

    Attributes
    ----------
    kind : str
        What it is called.
    text, code : str
        The formula for people, and in NumPy.
    reads : tuple of str
        Arguments of forward in the formula.
    tolerance : float
        How far numbers that were fitted may be off; 0 if there are none.
    """

    kind: str
    text: str
    code: str
    reads: tuple[str, ...] = ()
    tolerance: float = 0.0


@dataclass(frozen=True)
class Exhibit:
    """What a surrogate may be made of."""

    g: Floats
    g_name: str
    sent: Floats
    name: str
    x: Floats
    unit: float
    scalars: dict[str, float] = field(default_factory=dict)

    def fits(self, expected: Any) -> bool:
        """Whether a gradient is the one that was sent, but for rounding."""
        return self.off(expected) <= _ROUNDINGS * self.unit

    def off(self, expected: Any) -> float:
        """Return how far it is from that, relative to the largest number."""
        largest = float(np.max(np.abs(self.sent)))
        return float(np.max(np.abs(expected - self.sent))) / largest if largest else np.inf


def advice(
    tape: Tape,
    records: Records,
    functions: Functions | None,
    node: Node,
    node_run: NodeRun,
    input_nr: int,
) -> str:
    """Return what a gradient looks like whose right value is 0, with the declaration to copy.

    Empty where its forward does more than round or compare.
    """
    try:
        used = connects(tape, node, input_nr)
        outside = any(tape.calls[n].op.startswith(OUTSIDE) for n in node.inner)
        steps = outside or any(tape.calls[n].base_op in _STEPS for n in node.inner)
        if functions is None or (used and not steps):
            return ""
        function = functions.function(node.id)
        arguments = functions.arguments(node.id)
        tensors = [name for name, value in arguments.items() if isinstance(value, Ref)]
        if function is None:
            return ""
        exhibit = _exhibit(tape, records, node, node_run, input_nr, arguments, tensors[input_nr])
        with np.errstate(all="ignore"):
            found = _plainest(_candidates(exhibit, used=used or steps))
    except Exception:  # noqa: BLE001 (no verdict may depend on what is only advice)
        return ""
    if not (used or steps):
        seen = "its result does not use this input: this looks like an auxiliary loss"
    else:
        why = "runs outside torch" if outside else "only rounds or compares"
        kind = f", {found.kind}" if found else ""
        seen = f"its forward {why}: this looks like a straight-through estimator{kind}"
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
    if number is None:
        raise Unjudgeable("nothing was sent")
    sent = records(number)
    gs = {k: records(n) for k, n in enumerate(node_run.incoming) if n is not None}
    if not gs or any(a.dtype.kind != "f" for a in (x, sent, *gs.values())):
        raise Unjudgeable("only real numbers are recognised")
    fitting = next((k for k, g in gs.items() if g.shape == sent.shape), min(gs))
    numbers = {n: v for n, v in arguments.items() if isinstance(v, int | float)}
    scalars = {n: float(v) for n, v in numbers.items() if not isinstance(v, bool)}
    for other, value in arguments.items():
        if isinstance(value, Ref) and other != name and tape.values[value.value].shape == ():
            scalars[other] = float(records(value.value))
    dtypes = [tape.values[n].dtype for n in (number, node_run.incoming[fitting]) if n is not None]
    unit = max(unit_roundoff(dtype) for dtype in dtypes if is_inexact(dtype))
    g, several = gs[fitting], len(node.outputs) > 1
    if sent.size > _ENOUGH and g.shape == sent.shape == x.shape:
        every = slice(None, None, sent.size // _ENOUGH)
        g, sent, x = (array.ravel()[every] for array in (g, sent, x))
    g_name = f"g[{fitting}]" if several else "g"
    return Exhibit(g, g_name, sent, name, x, unit, scalars)


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
    if not exhibit.g.shape == sent.shape == exhibit.x.shape or not sent.size:
        return
    if exhibit.fits(exhibit.g):
        yield Surrogate("the identity", g, g)
    yield from _quantised(exhibit)
    shape = shape_of(exhibit.x, exhibit.g, sent, exhibit.scalars, exhibit.name)
    for fitted in shape:
        off = exhibit.off(exhibit.g * fitted.values)
        exact = off <= _ROUNDINGS * exhibit.unit
        if exact or off < _CLOSE:
            tolerance = 0.0 if exact else float(f"{2 * off:.0e}")
            code = fitted.code.replace("g * ", f"{g} * ", 1) if g != "g" else fitted.code
            yield Surrogate(fitted.kind, fitted.text, code, (name, *fitted.reads), tolerance)
    weights = (
        np.exp(exhibit.x - np.max(exhibit.x, axis=-1, keepdims=True)) if exhibit.x.ndim else None
    )
    if weights is not None:
        s = weights / weights.sum(-1, keepdims=True)
        if exhibit.fits(s * (exhibit.g - (exhibit.g * s).sum(-1, keepdims=True))):
            yield Surrogate(
                "the softmax's gradient",
                "s (g - sum(g s)), s = softmax(x)",
                f"s * ({g} - ({g} * s).sum(-1, keepdims=True))",
                (name,),
            )


# Beyond this share of the largest number a fitted curve is none.
_CLOSE = 1e-3


def _quantised(exhibit: Exhibit) -> Iterator[Surrogate]:
    """Yield the identity within the range of a quantisation by arguments of forward."""
    g, x, name = exhibit.g_name, exhibit.x, exhibit.name
    for scale, low, high in itertools.permutations(exhibit.scalars, 3):
        by = exhibit.scalars[scale]
        if not by or not exhibit.scalars[low] < exhibit.scalars[high]:
            continue
        q = np.round(x / by)
        inside = (q >= exhibit.scalars[low]) & (q <= exhibit.scalars[high])
        if not inside.all() and exhibit.fits(exhibit.g * inside):
            q_text = f"np.round({name} / {scale})"
            yield Surrogate(
                "the identity within the range",
                f"{g} where {low} <= round({name} / {scale}) <= {high}",
                f"{g} * (({q_text} >= {low}) & ({q_text} <= {high}))",
                (name, scale, low, high),
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
