"""Untrusted files: whatever they hold, they raise one kind of error."""

from __future__ import annotations

import io
import json
import pickle
import re
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradwitness._errors import FileFormatError
from gradwitness.files.tape_file import load_tape, save_tape
from gradwitness.tape import (
    Call,
    Edge,
    Kind,
    Layout,
    LeafUpdate,
    Node,
    NodeRun,
    Ref,
    Sweep,
    Tape,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

MANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def sample() -> Tape:
    weight = Value(
        0, (2, 3), "float32", np.arange(6, dtype=np.float32).reshape(2, 3), Layout(0, 0, (3, 1))
    )
    total = Value(1, (), "float32", np.array(15, dtype=np.float32), Layout(1, 0, ()))
    return Tape(
        (weight, total, Value(2, (2, 3), "float32", np.ones((2, 3), np.float32))),
        (Call(0, "aten.sum.default", {"self": Ref(0), "scale": 1.5}, (1,), node=0),),
        (
            Node(0, "SumBackward0", Kind.OPERATION, (Edge(1, 0),), (1,), call=0),
            Node(1, "AccumulateGrad", Kind.ACCUMULATE, (), (0,), leaf=0),
        ),
        (
            Sweep(
                ((Edge(0, 0), None),),
                (NodeRun(0, (None,), (2,)), NodeRun(1, (2,), ())),
                (LeafUpdate(1, None, 2),),
            ),
        ),
        {"torch": "2.13"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_tape(sample(), tmp_path / "tape.npz")
    return tmp_path / "tape.npz"


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_of(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return npy(np.frombuffer(raw, np.uint8))


def header(shape: str, descr: str = "'<f4'", order: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def rewrite(path: Path, compression: int = zipfile.ZIP_STORED, /, **entries: bytes | None) -> None:
    """Put other bytes, or nothing, in place of some entries."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    content |= {f"{name}.npy": raw for name, raw in entries.items() if raw is not None}
    gone = {f"{name}.npy" for name, raw in entries.items() if raw is None}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in content.items():
            if name not in gone:
                archive.writestr(name, raw)


def refusal(path: Path) -> str:
    """Return why a file is refused, without paths and the words of libraries."""
    with pytest.raises(FileFormatError) as caught:
        load_tape(path)
    text = str(caught.value)
    # Where, what, what to do; and never pages of the file's own content.
    assert str(path) in text
    assert "Record and save it again" in text
    assert len(text) < 1000
    text = re.sub(r"(not JSON): .*(\. Record)", r"\1: ...\2", text, flags=re.DOTALL)
    text = re.sub(r"\(.*\)", "(...)", text, flags=re.DOTALL)
    return text.partition(" is not a readable recording: ")[2].partition(". Record and")[0]


def test_the_sample_can_be_read(path: Path) -> None:
    assert load_tape(path).calls == sample().calls
    rewrite(path)
    assert load_tape(path).sweeps == sample().sweeps


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n", bytes(1000), npy(np.zeros(3))],
)
def test_what_is_no_zip(path: Path, content: bytes, snapshot: SnapshotAssertion) -> None:
    path.write_bytes(content)
    assert refusal(path) == snapshot


def test_every_truncation(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 17):
        path.write_bytes(content[:length])
        assert re.search("zip file|damaged|declare", refusal(path))


@pytest.mark.parametrize("name", ["tape", "array_0", "array_2"])
def test_a_missing_entry(path: Path, name: str, snapshot: SnapshotAssertion) -> None:
    rewrite(path, **{name: None})
    assert refusal(path) == snapshot


def test_a_changed_number_fails_its_checksum(path: Path, snapshot: SnapshotAssertion) -> None:
    content = path.read_bytes()
    number = np.float32(5).tobytes()
    assert content.count(number) == 1
    path.write_bytes(content.replace(number, np.float32(6).tobytes()))
    assert refusal(path) == snapshot


def test_a_compressed_entry_could_be_a_bomb(path: Path, snapshot: SnapshotAssertion) -> None:
    rewrite(path, zipfile.ZIP_DEFLATED, array_0=bytes(50_000_000))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        text = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert text == snapshot
    # Nor may the file be padded until the sizes look right.
    save_tape(sample(), path)
    rewrite(path, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = bytes(60_000)
    assert refusal(path) == snapshot


def test_pickles_are_never_opened(path: Path, snapshot: SnapshotAssertion) -> None:
    class Explosive:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return exec, ("raise SystemExit('a pickle was run')",)

    bomb = np.array([Explosive()], dtype=object)
    for name in ("array_0", "tape"):
        save_tape(sample(), path)
        rewrite(path, **{name: npy(bomb)})
        assert refusal(path) == snapshot
        save_tape(sample(), path)
        rewrite(path, **{name: pickle.dumps(Explosive())})
        assert refusal(path) == snapshot


@pytest.mark.parametrize(
    "raw",
    [
        header("(2, 4)") + bytes(32),
        header("(6,)") + bytes(24),
        header("(2, 3)", "'<f8'") + bytes(48),
        header("(2, 3)", "'>f4'") + bytes(24),
        header("(2, 3)", "'|O'") + bytes(48),
        header("(2, 3)", order="True") + bytes(24),
        header("(2, 3)") + bytes(23),
        header("(2, 3)") + bytes(25),
        header("(2, 3)"),
        header("(10**12, 10**12)"),
        header("(1000000000000, 1000000000000)"),
        header("(2, 3", ""),
        header("[" * 400),
        header("(-2, -3)") + bytes(24),
        header("(2, 3)", "[('a', '<f4')]") + bytes(24),
        b"\x93NUMPY\x02\x00" + header("(2, 3)")[8:] + bytes(24),
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"",
    ],
    ids=lambda _: "raw",
)
def test_an_array_that_is_not_the_one(path: Path, raw: bytes, snapshot: SnapshotAssertion) -> None:
    rewrite(path, array_0=raw)
    assert refusal(path) == snapshot


def test_an_array_of_an_unknown_version(path: Path) -> None:
    rewrite(path, array_0=b"\x93NUMPY\x09\x00" + bytes(24))
    assert "array_0.npy" in refusal(path)


@pytest.mark.parametrize(
    "raw",
    [
        npy_of(b"\xff\xfe"),
        npy_of("{"),
        npy_of("[" * 100_000),
        npy_of("1" * 10_000),
        npy_of("null"),
        npy_of("[]"),
        npy_of('{"format": NaN}'),
        npy(np.zeros(4)),
        npy(np.zeros((2, 2), np.uint8)),
        npy_of("{}")[:-1],
    ],
)
def test_json_that_is_none(path: Path, raw: bytes, snapshot: SnapshotAssertion) -> None:
    rewrite(path, tape=raw)
    assert refusal(path) == snapshot


def with_json(path: Path, edit: Callable[[Any], Any]) -> None:
    with np.load(path) as archive:
        data = json.loads(archive["tape"].tobytes())
    edit(data)
    rewrite(path, tape=npy_of(json.dumps(data)))


def at(*keys: Any) -> Callable[[Any, Any], None]:
    def put(data: Any, item: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = item

    return put


@pytest.mark.parametrize(
    ("keys", "item"),
    [
        (["format"], "npz"),
        (["version"], 2),
        (["version"], True),
        (["version"], "1"),
        (["about"], ["x"]),
        (["about", "torch"], 2),
        (["values"], None),
        (["values"], {}),
        (["extra"], 1),
        (["values", 0, "shape"], [3, 2]),
        (["values", 0, "shape"], [-2, -3]),
        (["values", 0, "shape"], [2.0, 3.0]),
        (["values", 0, "shape"], [2**70, 0]),
        (["values", 0, "dtype"], "float64"),
        (["values", 0, "dtype"], "object"),
        (["values", 0, "dtype"], "O"),
        (["values", 0, "array"], 99),
        (["values", 0, "array"], -1),
        (["values", 0, "array"], "../tape"),
        (["values", 0, "array"], None),
        (["values", 0, "layout", "strides"], [1]),
        (["values", 0, "layout", "strides"], [-3, 1]),
        (["values", 0, "layout", "offset"], -1),
        (["values", 0, "requires_grad"], 1),
        (["calls", 0, "arguments", "self", "ref"], 3),
        (["calls", 0, "arguments", "self", "ref"], -1),
        (["calls", 0, "arguments", "self", "ref"], True),
        (["calls", 0, "arguments", "self"], {"ref": 0, "x": 1}),
        (["calls", 0, "arguments", "self"], {"float": "7f"}),
        (["calls", 0, "arguments", "self"], {"float": 1.0}),
        (["calls", 0, "arguments"], []),
        (["calls", 0, "op"], "sum"),
        (["calls", 0, "outputs"], [3]),
        (["calls", 0, "node"], 2),
        (["calls", 0, "source"], None),
        (["nodes", 0, "kind"], "mystery"),
        (["nodes", 0, "edges", 0, "node"], 2),
        (["nodes", 0, "edges", 0, "index"], -1),
        (["nodes", 0, "call"], 1),
        (["nodes", 1, "leaf"], 3),
        (["nodes", 0, "saved"], [["x"]]),
        (["sweeps", 0, "roots", 0, 1], 3),
        (["sweeps", 0, "node_runs", 0, "node"], 2),
        (["sweeps", 0, "node_runs", 0, "incoming"], 0),
        (["sweeps", 0, "leaves", 0, "after"], 3),
        (["sweeps", 0, "limited_to"], [None]),
    ],
)
def test_json_that_is_no_tape(
    path: Path, keys: list[Any], item: Any, snapshot: SnapshotAssertion
) -> None:
    with_json(path, lambda data: at(*keys)(data, item))
    assert refusal(path) == snapshot


def test_arguments_of_endless_depth(path: Path, snapshot: SnapshotAssertion) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    with_json(path, lambda data: at("calls", 0, "arguments", "self")(data, deep))
    assert refusal(path) == snapshot


def survives(path: Path) -> None:
    """Read a file: the outcome is a tape or the one error."""
    try:
        tape = load_tape(path)
    except FileFormatError:
        return
    assert isinstance(tape, Tape)


@MANY
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6
    )
)
def test_any_changed_bytes(path: Path, changes: list[tuple[int, bytes]]) -> None:
    save_tape(sample(), path)
    raw = bytearray(path.read_bytes())
    for position, new in changes:
        position %= len(raw)
        raw[position : position + len(new)] = new
    path.write_bytes(raw)
    survives(path)


@MANY
@given(position=st.integers(0, 10**6), new=st.binary(max_size=8), cut=st.integers(0, 8))
def test_any_changed_bytes_of_the_json(path: Path, position: int, new: bytes, cut: int) -> None:
    # With a checksum that is right again.
    save_tape(sample(), path)
    with np.load(path) as archive:
        raw = archive["tape"].tobytes()
    position %= len(raw)
    rewrite(path, tape=npy_of(raw[:position] + new + raw[position + cut :]))
    survives(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ref", "x"]), inner)
    ),
    max_leaves=4,
)


@MANY
@given(turns=st.lists(st.integers(0, 20), min_size=1, max_size=6), item=JSON)
def test_any_json_in_place_of_any_part(path: Path, turns: list[int], item: Any) -> None:
    save_tape(sample(), path)

    def edit(data: Any) -> None:
        for turn in turns:
            keys = list(data) if isinstance(data, dict) else list(range(len(data)))
            key = keys[turn % len(keys)]
            if turn == turns[-1] or not isinstance(data[key], dict | list) or not data[key]:
                data[key] = item
                return
            data = data[key]

    with_json(path, edit)
    survives(path)
