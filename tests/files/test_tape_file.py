from __future__ import annotations

import dataclasses
import json
import math
import struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradwitness._errors import InputError
from gradwitness.files.tape_file import load_tape, save_tape
from gradwitness.tape import (
    Argument,
    Call,
    Edge,
    Kind,
    Layout,
    LeafUpdate,
    Node,
    NodeRun,
    Ref,
    Source,
    Sweep,
    Tape,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

DTYPES: dict[str, type] = {
    "bool": np.bool_,
    "uint8": np.uint8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
    "complex64": np.complex64,
}


def same(a: Any, b: Any) -> bool:
    """Whether two pieces of a tape are of one type and the same to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    return bool(a == b)


def tape_of(*values: Value, calls: tuple[Call, ...] = ()) -> Tape:
    return Tape(values, calls, (), ())


def value_of(array: NDArray[Any], dtype: str, number: int = 0) -> Value:
    return Value(number, array.shape, dtype, array)


def round_trip(tape: Tape, path: Path) -> Tape:
    save_tape(tape, path)
    return load_tape(path)


TEXT = st.text(max_size=8)
BELOW_TORCH = st.integers(0, 2**40)


@st.composite
def arrays(draw: st.DrawFn) -> Value:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    kind = np.dtype(DTYPES[dtype])
    count = math.prod(shape) * kind.itemsize
    # Any bits at all: NaN payloads, negative zeros, subnormal numbers.
    bits = bytearray(draw(st.binary(min_size=count, max_size=count)))
    if dtype == "bool":
        bits = bytearray(bit & 1 for bit in bits)
    array: NDArray[Any] = np.frombuffer(bits, kind).reshape(shape)
    if draw(st.booleans()):
        array = array.T
    layout = Layout(draw(BELOW_TORCH), draw(BELOW_TORCH), tuple(range(array.ndim)))
    return Value(0, array.shape, dtype, array, draw(st.sampled_from([layout, None])))


def arguments(values: int) -> st.SearchStrategy[Argument]:
    reference = st.builds(Ref, st.integers(0, values - 1)) if values else st.none()
    single = st.one_of(
        reference,
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(st.characters(), max_size=5),
    )
    return st.recursive(single, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    """Draw tapes that are consistent in their numbers, and in nothing else."""
    without = st.builds(Value, st.just(0), st.just((2, 3)), TEXT, st.none())
    values = tuple(
        dataclasses.replace(value, id=number, name=draw(TEXT), requires_grad=draw(st.booleans()))
        for number, value in enumerate(draw(st.lists(arrays() | without, max_size=4)))
    )
    calls, nodes = draw(st.integers(0, 3)), draw(st.integers(0, 3))

    def one(count: int) -> st.SearchStrategy[int | None]:
        return st.none() | st.integers(0, count - 1) if count else st.none()

    def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.lists(strategy, max_size=3).map(tuple)

    value, call, node = one(len(values)), one(calls), one(nodes)
    call_of = st.builds(
        Call,
        st.just(0),
        st.sampled_from(["aten.addmm.default", "aten.relu_.default"]),
        st.dictionaries(TEXT, arguments(len(values)), max_size=3),
        some(value),
        some(TEXT),
        st.booleans(),
        node,
        node,
        st.builds(Source, TEXT, TEXT),
        value,
    )
    edge = st.builds(Edge, st.integers(0, max(nodes - 1, 0)), st.integers(0, 5))
    edges = some(st.none() | edge) if nodes else st.just(())
    kinds = st.sampled_from([Kind.OPERATION, Kind.CUSTOM, Kind.COPY_SLICES, Kind.UNKNOWN])
    inner = some(st.integers(0, calls - 1)) if calls else st.just(())
    saved = some(st.tuples(TEXT, value))
    node_of = st.builds(
        Node, st.just(0), TEXT, kinds, edges, some(value), call, inner, value, saved
    )
    sweeps: st.SearchStrategy[list[Sweep]] = st.just([])
    if nodes:
        number = st.integers(0, nodes - 1)
        sweep_of: st.SearchStrategy[Sweep] = st.builds(
            Sweep,
            some(st.tuples(edge, value)),
            some(st.builds(NodeRun, number, some(value), some(value))),
            some(st.builds(LeafUpdate, number, value, value)),
            some(st.tuples(edge, value)),
            st.none() | some(edge),
        )
        sweeps = st.lists(sweep_of, max_size=2)
    drawn = [dataclasses.replace(draw(node_of), id=k) for k in range(nodes)]

    def made(ends: tuple[tuple[Edge, Any], ...]) -> tuple[tuple[Edge, Any], ...]:
        return tuple(end for end in ends if end[0].index < len(drawn[end[0].node].outputs))

    return Tape(
        values,
        tuple(dataclasses.replace(draw(call_of), id=k) for k in range(calls)),
        tuple(
            # No circle: each sends to later ones.
            dataclasses.replace(
                node, edges=tuple(e if e and e.node > node.id else None for e in node.edges)
            )
            for node in drawn
        ),
        tuple(
            dataclasses.replace(sweep, roots=made(sweep.roots), captured=made(sweep.captured))
            for sweep in draw(sweeps)
        ),
        draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    )


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tape=tapes())
def test_any_tape_comes_back_bit_for_bit(tape: Tape, tmp_path: Path) -> None:
    back = round_trip(tape, tmp_path / "tape.npz")
    assert same(back, tape)
    save_tape(back, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "tape.npz").read_bytes()


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        # Quiet and signalling NaN with payloads, -0, inf, the smallest subnormal number.
        ("float16", np.array([0x7E01, 0x7D01, 0xFE55, 0x8000, 0x7C00, 1], np.uint16)),
        ("bfloat16", np.array([0x7FC1, 0x7F81, 0xFFC5, 0x8000, 0x7F80, 1], np.uint16)),
        (
            "float32",
            np.array([0x7FC00001, 0x7F800001, 0xFFC55555, 1 << 31, 0x7F800000, 1], np.uint32),
        ),
        ("float64", np.array([0x7FF8 << 48 | 1, 0x7FF0 << 48 | 1, 1 << 63, 1], np.uint64)),
    ],
)
def test_strange_numbers_keep_their_bits(dtype: str, bits: NDArray[Any], tmp_path: Path) -> None:
    array: NDArray[Any] = bits.view(DTYPES[dtype])
    (back,) = round_trip(tape_of(value_of(array, dtype)), tmp_path / "t").values
    assert back.array is not None
    assert back.array.dtype == np.dtype(DTYPES[dtype])
    assert back.array.view(bits.dtype).tolist() == bits.tolist()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize(
    "arrange",
    [
        lambda a: a.reshape(3, 4).T,
        lambda a: a[::2],
        lambda a: a[::-1],
        lambda a: a[3],
        lambda a: a[:0],
        lambda a: a[:0].reshape(0, 5),
        lambda a: np.broadcast_to(a[:1], (4, 3)),
        lambda a: np.array(a[5]),
    ],
)
def test_every_arrangement_of_memory(
    dtype: str, arrange: Callable[[Any], Any], tmp_path: Path
) -> None:
    array: NDArray[Any] = np.asarray(arrange(np.arange(12).astype(DTYPES[dtype])))
    expected = array.tolist()
    (back,) = round_trip(tape_of(value_of(array, dtype)), tmp_path / "t").values
    assert back.array is not None
    assert back.array.tolist() == expected
    assert back.array.shape == array.shape == back.shape
    assert not back.array.flags.writeable


@pytest.mark.parametrize(
    "argument",
    [
        2**53 + 1,
        -(2**63),
        2**64 - 1,
        True,
        1,
        1.0,
        -0.0,
        0.1,
        5e-324,
        math.inf,
        -math.inf,
        math.nan,
        -math.nan,
        None,
        "",
        "true",
        "\ud800 \0 é",
        Ref(0),
        (),
        ((), (Ref(0), (None, 1, 1.0, True))),
    ],
    ids=repr,
)
def test_an_argument_keeps_its_type_and_bits(argument: Argument, tmp_path: Path) -> None:
    call = Call(0, "aten.x.y", {"first": 0, "second": argument, "a": 1}, ())
    tape = tape_of(value_of(np.zeros(1), "float64"), calls=(call,))
    (back,) = round_trip(tape, tmp_path / "t").calls
    assert list(back.arguments) == ["first", "second", "a"]
    assert same(back.arguments["second"], argument)


def test_same_tells_apart_what_equality_does_not() -> None:
    assert not same(True, 1)
    assert not same(1, 1.0)
    assert not same(0.0, -0.0)
    assert same(math.nan, math.nan)
    assert not same(np.array(0.0), np.array(-0.0))
    assert not same((1,), (True,))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(Source("a"), Source("b"))


def test_memory_that_values_share_is_written_once(tmp_path: Path) -> None:
    array = np.arange(100_000, dtype=np.float64)
    shared = [value_of(a, "float64", k) for k, a in enumerate([array, array[:], array.view()])]
    other = [value_of(a, "float64", k) for k, a in enumerate([array[:-1], array[1:], array[::2]])]
    save_tape(tape_of(*shared), tmp_path / "shared")
    save_tape(tape_of(*other), tmp_path / "other")
    assert 800_000 < (tmp_path / "shared").stat().st_size < 810_000
    assert (tmp_path / "other").stat().st_size > 2_000_000
    assert same(load_tape(tmp_path / "shared"), tape_of(*shared))
    assert same(load_tape(tmp_path / "other"), tape_of(*other))


def test_one_memory_under_two_dtypes(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0x4000], np.uint16)
    tape = tape_of(value_of(bits, "uint16"), value_of(bits.view(ml_dtypes.bfloat16), "bfloat16", 1))
    back = round_trip(tape, tmp_path / "t")
    assert same(back, tape)
    assert back.values[1].array is not None
    assert back.values[1].array.astype(float).tolist() == [1.0, 2.0]


def test_it_is_an_ordinary_npz(tmp_path: Path) -> None:
    tape = tape_of(value_of(np.array([[1.5, -2.0]]), "float64"))
    save_tape(tape, tmp_path / "tape.npz")
    with np.load(tmp_path / "tape.npz", allow_pickle=False) as content:
        assert sorted(content) == ["array_0", "tape"]
        assert content["array_0"].tolist() == [[1.5, -2.0]]
        data = json.loads(content["tape"].tobytes().decode())
    assert (data["format"], data["version"]) == ("gradwitness-tape", 5)


@pytest.mark.parametrize(
    "tape",
    [
        tape_of(Value(0, (2,), "float32", np.zeros(2))),
        tape_of(Value(0, (3,), "float64", np.zeros(2))),
        tape_of(Value(0, (1,), "object", np.array([None]))),
        tape_of(calls=(Call(0, "a.b", {}, (0,)),)),
        tape_of(calls=(Call(0, "a.b", {"x": Ref(7)}, ()),)),
        tape_of(calls=(Call(0, "a.b", {"x": b"j"}, ()),)),  # type: ignore[dict-item]
        Tape((), (), (), (), {"a": 1}),  # type: ignore[dict-item]
    ],
)
def test_a_tape_that_could_not_be_read_is_not_written(
    tape: Tape, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    (tmp_path / "tape").write_bytes(b"old")
    with pytest.raises(InputError) as error:
        save_tape(tape, tmp_path / "tape")
    assert str(error.value) == snapshot
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("tape", b"old")]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "absent", "No such file"), (tmp_path, "it is a folder")):
        with pytest.raises(InputError, match=f"cannot read .*: {what}"):
            load_tape(path)
