"""Convert a tape to JSON and back, with entry numbers in place of arrays.

Records are objects with all their fields by name, except ``id``, which is the position. Tuples are
lists. None, bool, int, str and finite floats are themselves: Python's JSON distinguishes int, bool
and float, and restores floats bit for bit. Other values are

    inf, nan    {"float": "7ff8000000000000"}     the bits, in hexadecimal
    complex     {"complex": ["3ff8000000000000", "0000000000000000"]}    of both parts
    Ref         {"ref": 12}

The reader trusts nothing: it accepts only tapes whose references are all valid.
"""

from __future__ import annotations

import math
import struct
from dataclasses import fields, is_dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness._errors import InputError
from gradwitness.files.readers import (
    LARGEST,
    Reader,
    SchemaError,
    a_list,
    below,
    by_name,
    flag,
    many,
    numbered,
    one_of,
    optional,
    pair,
    record,
    size,
    text,
)
from gradwitness.tape import (
    Argument,
    Call,
    Edge,
    Ending,
    Kind,
    Layout,
    LeafUpdate,
    Node,
    NodeRun,
    Ref,
    Source,
    Sweep,
    Tape,
    Unseen,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    # From the number of an entry, a shape and a dtype.
    ArrayReader: TypeAlias = Callable[[int, tuple[int, ...], str], NDArray[np.generic]]

FORMAT = "gradwitness-tape"
VERSION = 5

_KINDS = {kind for name, kind in vars(Kind).items() if name.isupper()}


def encode(tape: Tape, entries: Sequence[int | None]) -> dict[str, Any]:
    """Convert a tape to JSON data; ``entries`` has the number of each value's entry, if any."""
    values = [
        {
            **_fields(value, "array", "freed"),
            "array": entry,
            # Where numbers lay that are not there helps nobody.
            "layout": None if entry is None else _plain(value.layout),
        }
        for value, entry in zip(tape.values, entries, strict=True)
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        **_fields(tape, "values", "complete", "replayable", "failures", "rewritten"),
        "values": values,
    }


def _fields(record: Any, *left_out: str) -> dict[str, Any]:
    names = [field.name for field in fields(record) if field.name not in ("id", *left_out)]
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if isinstance(value, complex):
        return {"complex": [struct.pack(">d", item).hex() for item in (value.real, value.imag)]}
    if isinstance(value, Ref):
        return {"ref": value.value}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if is_dataclass(value):
        # Which line made a gradient serves the report of the block alone.
        return _fields(value, "steps")
    raise InputError(
        f"the recording was not saved, as it holds {value!r} of type {type(value).__name__}. "
        "Arguments must be references, numbers, text, None or tuples of these."
    )


def decode(data: Any, array: ArrayReader) -> Tape:
    """Convert JSON data to a tape; raise `SchemaError` if it is malformed or a reference invalid.

    ``array`` returns the array for an entry number, a shape and a dtype; it raises `SchemaError` if
    there is no such array.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise SchemaError(f"its format is not {FORMAT!r}")
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        raise SchemaError(f"version {version!r}, but this gradwitness reads version {VERSION}")
    count = {name: len(a_list(data.get(name), name)) for name in ("values", "calls", "nodes")}
    value = below(count["values"], "value")
    call = below(count["calls"], "call")
    node = below(count["nodes"], "node")
    # The input of a node: some record no output for it, so only its sign can be checked.
    edge = record(Edge, node=node, index=size)
    # Recordings of earlier versions lack them.
    data = {"unseen": [], "ended": None, "unused": []} | data
    read = record(
        lambda **content: Tape(**_without_header(content)),
        format=text,
        version=size,
        about=by_name(text),
        parameters=many(value),
        values=_values(array),
        calls=_calls(value, node),
        nodes=_nodes(value, call, edge),
        sweeps=many(_sweep(value, node, edge)),
        unseen=many(
            record(
                Unseen,
                reason=text,
                node=optional(node),
                sweep=optional(below(len(a_list(data.get("sweeps"), "sweeps")), "sweep")),
                after=optional(value),
                line=text,
            )
        ),
        ended=optional(record(Ending, error=text, line=text)),
        unused=many(pair(text, text)),
    )
    tape = read(data, "tape")
    _require_an_order(tape)
    return tape


def _require_an_order(tape: Tape) -> None:
    """Raise unless gradients run from what nodes made, to others without coming back."""
    try:
        TopologicalSorter(
            {node.id: {e.node for e in node.edges if e is not None} for node in tape.nodes}
        ).prepare()
    except CycleError:
        raise SchemaError("nodes: their edges run in a circle") from None
    for sweep in tape.sweeps:
        if max([sweep.after, *(run.after for run in sweep.node_runs)]) > len(tape.calls):
            raise SchemaError("a backward pass begins after more calls than there are")
        ends = (edge for edge, _ in (*sweep.roots, *sweep.captured))
        if any(edge.index >= len(tape.nodes[edge.node].outputs) for edge in ends):
            raise SchemaError(
                "a backward pass begins or ends at a result that its node did not make"
            )


def _without_header(content: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in content.items() if name not in ("format", "version")}


def _values(array: ArrayReader) -> Reader[tuple[Value, ...]]:
    # No negative strides: the replay lays values over buffers of exactly that extent.
    layout = record(Layout, storage=size, offset=size, strides=many(size))
    read: Reader[tuple[dict[str, Any], ...]] = numbered(
        dict,
        shape=many(size),
        dtype=text,
        array=optional(size),
        layout=optional(layout),
        name=text,
        requires_grad=flag,
        sparse=size,
    )

    def complete(data: Any, where: str) -> tuple[Value, ...]:
        return tuple(
            _value(content, array, f"{where}[{index}]")
            for index, content in enumerate(read(data, where))
        )

    return complete


def _value(content: dict[str, Any], array: ArrayReader, where: str) -> Value:
    layout, entry = content["layout"], content["array"]
    if layout is not None and (entry is None or len(layout.strides) != len(content["shape"])):
        raise SchemaError(f"{where}.layout: it does not fit an array of this shape")
    # Of 16 bytes each.
    if math.prod(content["shape"]) >= LARGEST // 16:
        raise SchemaError(f"{where}.shape: more numbers than can be counted")
    if entry is not None:
        try:
            content["array"] = array(entry, content["shape"], content["dtype"])
        except SchemaError as error:
            raise SchemaError(f"{where}.array: {error}") from error
    return Value(**content)


def _calls(value: Reader[int], node: Reader[int]) -> Reader[tuple[Call, ...]]:
    return numbered(
        Call,
        op=_operation,
        arguments=by_name(_argument(value)),
        outputs=many(optional(value)),
        writes=many(text),
        is_view=flag,
        node=optional(node),
        during=optional(node),
        source=record(Source, module=text, line=text),
        base=optional(value),
        grad=flag,
    )


def _operation(data: Any, where: str) -> str:
    if text(data, where).count(".") < 1:
        raise SchemaError(f"{where}: expected a name like aten.add.Tensor")
    return str(data)


def _argument(value: Reader[int]) -> Reader[Argument]:
    reference = record(Ref, value=value)

    def read(data: Any, where: str) -> Argument:
        if data is None or isinstance(data, bool | int | float | str):
            return data
        if isinstance(data, list):
            return many(read)(data, where)
        if isinstance(data, dict) and data.keys() == {"float"}:
            return _float(data["float"], where)
        if isinstance(data, dict) and data.keys() == {"complex"}:
            return complex(*pair(_float, _float)(data["complex"], where))
        if isinstance(data, dict) and data.keys() == {"ref"}:
            return reference({"value": data["ref"]}, where)
        raise SchemaError(f"{where}: expected a reference, number, text or list")

    return read


def _float(data: Any, where: str) -> float:
    try:
        (number,) = struct.unpack(">d", bytes.fromhex(text(data, where)))
    except (ValueError, struct.error) as error:
        raise SchemaError(f"{where}: expected 16 hexadecimal digits") from error
    return float(number)


def _nodes(value: Reader[int], call: Reader[int], edge: Reader[Edge]) -> Reader[tuple[Node, ...]]:
    return numbered(
        Node,
        name=text,
        kind=one_of(_KINDS),
        edges=many(optional(edge)),
        outputs=many(optional(value)),
        call=optional(call),
        inner=many(call),
        leaf=optional(value),
        saved=many(pair(text, optional(value))),
    )


def _sweep(value: Reader[int], node: Reader[int], edge: Reader[Edge]) -> Reader[Sweep]:
    gradients = many(optional(value))
    return record(
        Sweep,
        roots=many(pair(edge, optional(value))),
        node_runs=many(
            record(
                NodeRun,
                node=node,
                incoming=gradients,
                outgoing=gradients,
                changed=many(size),
                summed=flag,
                after=size,
                seen=flag,
            )
        ),
        leaves=many(record(LeafUpdate, node=node, before=optional(value), after=optional(value))),
        captured=many(pair(edge, optional(value))),
        limited_to=optional(many(edge)),
        after=size,
        hooks=many(pair(edge, text)),
    )
