"""Backward: one node's outgoing gradients from its incoming ones.

Broadcasting is undone here and nowhere else: a rule's vjp has the shape of the result, and is
summed over the axes along which the operand was repeated. Conjugation for rules written for real
numbers (see `rules.elementwise.complex_numbers`), and dropping the imaginary part of a real
operand's gradient, happen here too.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError, RuleFailure, Unjudgeable
from gradwitness.engine.adjoint_memory import swept
from gradwitness.engine.binding import Lookup, bind, inputs_of, stand_in
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.custom_forwards import changes_views, edge_value, reaching
from gradwitness.engine.floats import Arithmetic, as_array, is_complex, unit_roundoff
from gradwitness.engine.forward import numbers, over_field, run
from gradwitness.rules import find
from gradwitness.rules.elementwise.complex_numbers import HOLOMORPHIC
from gradwitness.rules.graph_terms import DRAWN
from gradwitness.rules.kernel_ops import enter_kernel, paired, parts, round_to_format
from gradwitness.rules.made_like import full_like
from gradwitness.rules.shape.shape import positions
from gradwitness.tape import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.rules import Rule
    from gradwitness.rules.vjps import Gradient
    from gradwitness.tape import Call, Edge, Node, Tape, Value


def gradients(
    tape: Tape,
    node: Node,
    incoming: Sequence[Any],
    lookup: Lookup,
    arithmetic: Arithmetic | None,
    *,
    precise: bool = False,
) -> tuple[Any, ...]:
    """Compute the gradients that a node should send, one for each edge.

    ``incoming`` are the cotangents of the node's outputs, of which None counts as zero. It sends
    None where no gradient is wanted, or nothing came in. Without an ``arithmetic`` it computes in
    plain float64, and ``precise`` by formulas that lose no digits (see `Rule`). A node without a
    rule is Unjudgeable.
    """
    if node.kind == Kind.UNKNOWN and node.name == "AliasBackward0":
        # A tensor as one of another class: torch hides the call of `as_subclass` from all modes.
        return tuple(incoming[:1])
    if node.kind == Kind.UNKNOWN:
        raise _unknown(node)
    if all(g is None for g in incoming):
        return (None,) * len(node.edges)
    wanted = [edge is not None for edge in node.edges]
    if node.kind == Kind.CUSTOM:
        return _custom(tape, node, incoming, lookup, arithmetic)
    if node.call is None:
        raise _unknown(node)
    call = tape.calls[node.call]
    # Of results without elements every gradient is a sum of no terms.
    if call.base_op in DRAWN or not any(g is not None and g.size for g in incoming):
        return tuple(_zeros(tape, edge, incoming) for edge in node.edges)
    if node.kind == Kind.COPY_SLICES:
        return _copy_slices(tape, call, incoming[0], lookup, arithmetic, wanted)
    # Results before the node's first output are constants.
    begun = node.outputs[0] if node.outputs else None
    constants = call.outputs.index(begun) if begun in call.outputs else 0
    arrived = [None] * constants + list(incoming)
    return vjp(tape, call, arrived, lookup, arithmetic, wanted, precise=precise)


def sending(node: Node, wanted: Container[int]) -> Node:
    """Return a node as if only some of its gradients were wanted."""
    if all(edge is None or k in wanted for k, edge in enumerate(node.edges)):
        return node
    return replace(node, edges=tuple(e if k in wanted else None for k, e in enumerate(node.edges)))


def _unknown(node: Node) -> Unjudgeable:
    where = "inside a torch.jit graph" if "DifferentiableGraph" in node.name else "elsewhere"
    return Unjudgeable(f"no recorded call belongs to {node.name}: its forward ran {where}")


def _instead(call: Call) -> Mapping[str, Gradient]:
    """Return the formulas that keep the digits which torch's lose."""
    rule = find(call.base_op)
    return {} if rule is None else rule.precise


def _gradient(rule: Rule, operand: str) -> Gradient:
    if operand in rule.refused:
        raise Unjudgeable(f"no gradient of {rule.name} with respect to {operand!r} is known")
    return rule.gradients[operand]


def vjp(
    tape: Tape,
    call: Call,
    incoming: Sequence[Any],
    lookup: Lookup,
    arithmetic: Arithmetic | None,
    wanted: Sequence[bool],
    *,
    precise: bool = False,
) -> tuple[Any, ...]:
    """Apply a call's vjps to the cotangents of its outputs, for the wanted operands."""
    instead = _instead(call) if precise else {}
    bound = bind(tape, call, lookup, arithmetic=arithmetic, for_vjp=not instead)
    rule, inputs = bound.rule, bound.inputs()
    if len(inputs) != len(wanted):
        raise Unjudgeable(
            f"{call.op} has {len(wanted)} edges, but its rule differentiates {len(inputs)} operands"
        )
    mixed = bound.form.over_complex
    conjugates = mixed and rule.name in HOLOMORPHIC
    # A sum of numbers without axes is no array in NumPy, and cannot be named by ``like``.
    incoming = [
        None if g is None else as_array(np.conjugate(g) if conjugates else g) for g in incoming
    ]
    g, y = _cotangents(tape, call, incoming, lookup, arithmetic, rule)
    vjps: dict[str, Any] = {}
    results: list[Any] = []
    for (name, index, argument), want in zip(inputs, wanted, strict=True):
        if not want or not isinstance(argument, Ref):
            results.append(None)
            continue
        whose = f"the vjp of {name!r} in the rule of {rule.name}"
        if name not in vjps:
            gradient = instead.get(name) or _gradient(rule, name)
            read = (g, y, bound.operands)
            if arithmetic is not None and gradient.kernel in arithmetic.kernels:
                read = _in_kernel(read)
            made = run(whose, gradient, *read, bound.parameters)
            several = gradient.together
            vjps |= dict(zip(several, made, strict=True)) if several else {name: made}
        result = vjps[name]
        if index is not None:
            if not isinstance(result, (tuple, list)) or len(result) <= index:
                raise RuleFailure(f"{whose} must return a list with one gradient for each tensor")
            result = result[index]
        operand = tape.values[argument.value]
        result = numbers(whose, result, operand.dtype, arithmetic)
        result = _stored(rule, result, operand, arithmetic)
        if result.shape != operand.shape:
            result = run(whose, unbroadcast, result, operand.shape)
        if conjugates:
            result = np.conjugate(result)
        results.append(over_field(result, operand.dtype) if mixed else result)
    return tuple(results)


def _in_kernel(item: Any) -> Any:
    """Return what a vjp reads, as one kernel computes with it."""
    if isinstance(item, (tuple, list)):
        return tuple(map(_in_kernel, item))
    return enter_kernel(item) if isinstance(item, Bounded) else item


def _stored(rule: Rule, result: Any, operand: Value, arithmetic: Arithmetic | None) -> Any:
    """Return a kernel's result as it is stored, in the operand's format.

    The gradient of a copy is cast to it before it is summed.
    """
    if arithmetic is None or not isinstance(result, Bounded):
        return result
    final = result.arithmetic.final
    if not final and (rule.name != "aten.copy" or result.shape == operand.shape):
        return result
    own = unit_roundoff(operand.dtype)
    kernel = replace(result.arithmetic, final=min(final, own) if final else own)
    stored = round_to_format(Bounded(result.value, kernel, *result.errors))
    return Bounded(stored.value, arithmetic, *stored.errors)


def _cotangents(
    tape: Tape,
    call: Call,
    incoming: Sequence[Any],
    lookup: Lookup,
    arithmetic: Arithmetic | None,
    rule: Rule,
) -> tuple[Any, Any]:
    """Return the cotangents of a call's results, and the results that its vjps use."""

    def result(index: int, number: int | None) -> Any:
        if number is None:
            return None
        if not rule.keeps(index, len(call.outputs)):
            return stand_in(tape, number, arithmetic)
        array = lookup(number)
        if arithmetic is None or array.dtype.kind not in "fc":
            return array
        return Bounded(array, arithmetic)

    ys = tuple(itertools.starmap(result, enumerate(call.outputs)))
    gs = list(incoming) + [None] * (len(ys) - len(incoming))
    if len(ys) == 1:
        return gs[0], ys[0]
    if all(g is not None for g in gs):
        return tuple(gs), ys
    like = next(g for g in gs if g is not None)
    filled = (
        _no_gradient(like, np.shape(y)) if g is None else g for g, y in zip(gs, ys, strict=True)
    )
    return tuple(filled), ys


def _no_gradient(like: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of one zero: a workspace, whose gradient nobody reads, may be large."""
    if type(like) is np.ndarray:
        return _zeros_of(like.dtype, shape)
    return np.broadcast_to(full_like(like, (), 0), shape)


@functools.lru_cache
def _zeros_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.broadcast_to(np.zeros((), dtype), shape)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, g.shape[extra:], strict=True)):
        raise RuleError(f"gives shape {g.shape}, but its operand has shape {shape}")
    kept = (*[1] * extra, *shape)
    repeated = tuple(axis for axis, n in enumerate(kept) if n == 1 and g.shape[axis] != 1)
    return np.reshape(np.sum(g, axis=repeated) if repeated else g, shape)


def _copy_slices(
    tape: Tape,
    call: Call,
    g: Any,
    lookup: Lookup,
    arithmetic: Arithmetic | None,
    wanted: Sequence[bool],
) -> tuple[Any, ...]:
    """Send the view's part of the gradient through the in-place operation, the rest past it.

    Where only one of base and view is complex, both are split into real and imaginary parts.
    """
    base, view = _base_and_view(tape, call)
    mixed = is_complex(base.dtype) != is_complex(view.dtype)
    indices = _places_in_base(base, view, in_parts=mixed)
    elements = parts(g) if mixed and is_complex(base.dtype) else g
    flat = np.reshape(elements, (elements.size,))
    arriving = flat[indices]
    if mixed and is_complex(view.dtype):
        arriving = paired(arriving[..., 0], arriving[..., 1])
    through = vjp(tape, call, (arriving,), lookup, arithmetic, [True, *wanted[1:]])
    if not wanted[0]:
        return (None, *through[1:])
    rest = np.concatenate([flat])  # a copy that dispatches
    rest[indices] = parts(through[0]) if mixed and is_complex(view.dtype) else through[0]
    rest = np.reshape(rest, elements.shape)
    if mixed and is_complex(base.dtype):
        rest = paired(rest[..., 0], rest[..., 1])
    return (rest, *through[1:])


def _base_and_view(tape: Tape, call: Call) -> tuple[Value, Value]:
    if call.base is None or call.outputs[0] is None:
        raise Unjudgeable("in-place change of a view whose base was not recorded")
    base, view = tape.values[call.base], tape.values[call.outputs[0]]
    if base.layout is None or view.layout is None:
        raise Unjudgeable("in-place change of a view whose memory was not recorded")
    return base, view


def _places_in_base(base: Value, view: Value, *, in_parts: bool) -> Any:
    """Return the index in the flattened base of each element of a changed view."""
    in_base, in_view = (_places(value, in_parts=in_parts) for value in (base, view))
    table = np.full(int(in_base.max(initial=-1)) + 1, -1)
    table[in_base] = np.arange(in_base.size).reshape(in_base.shape)
    return table[in_view]


def _places(value: Value, *, in_parts: bool) -> Any:
    """Return where a value's elements, or their real and imaginary parts, lie in memory."""
    assert value.layout is not None  # noqa: S101 (the caller has looked)
    places = positions(value.shape, value.layout.strides, value.layout.offset)
    if in_parts and is_complex(value.dtype):
        return 2 * places[..., None] + np.arange(2)
    return places


def _zeros(tape: Tape, edge: Edge | None, incoming: Sequence[Any]) -> Any:
    """Return the gradient of a distribution's parameter: zero, by torch's convention."""
    number = edge_value(tape, edge)
    if number is None:
        return None
    some = next(g for g in incoming if g is not None)
    return full_like(some, tape.values[number].shape, 0)


def _custom(
    tape: Tape,
    node: Node,
    incoming: Sequence[Any],
    lookup: Lookup,
    arithmetic: Arithmetic | None,
) -> tuple[Any, ...]:
    """Differentiate a custom function's recorded forward by the rules.

    A reverse sweep over the calls of its forward, from its outputs to its inputs.
    """
    inner = [tape.calls[number] for number in node.inner]
    sources = [edge_value(tape, edge, node) for edge in node.edges]
    if changes_views(tape, node, inner, incoming):
        arrived = [
            (_known_output(node, index), g) for index, g in enumerate(incoming) if g is not None
        ]
        return swept(tape, inner, arrived, sources, lookup, arithmetic, vjp)
    depending = reaching(inner, {s for s in sources if s is not None})
    cotangents: dict[int, Any] = {}
    for index, g in enumerate(incoming):
        if g is None:
            continue
        output = _known_output(node, index)
        if output not in depending:
            raise Unjudgeable(f"no recorded operation leads to output {index} of {node.name}")
        cotangents[output] = g
    for call in reversed(inner):
        into = [None if n is None else cotangents.get(n) for n in call.outputs]
        if all(g is None for g in into):
            continue
        inputs = inputs_of(tape, call)
        wanted = [isinstance(a, Ref) and a.value in depending for _, _, a in inputs]
        if not any(wanted):
            continue
        for (_, _, argument), g in zip(
            inputs, vjp(tape, call, into, lookup, arithmetic, wanted), strict=True
        ):
            if g is not None and isinstance(argument, Ref):
                before = cotangents.get(argument.value)
                cotangents[argument.value] = g if before is None else before + g
    # Of a tensor that came in twice only the sum of its gradients is known: the first gets it.
    return tuple(None if source is None else cotangents.pop(source, None) for source in sources)


def _known_output(node: Node, index: int) -> int:
    output = node.outputs[index] if index < len(node.outputs) else None
    if output is None:
        raise Unjudgeable(f"an output of {node.name} was not recorded")
    return output
