"""Files that nobody vouches for: whatever they hold, one kind of error comes of it."""

from __future__ import annotations

import io
import json
import pickle
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


def refuses(path: Path, message: str) -> None:
    with pytest.raises(FileFormatError, match=message) as caught:
        load_tape(path)
    text = str(caught.value)
    # Where, what, what to do; and never pages of the file's own content.
    assert str(path) in text
    assert "Record and save it again" in text
    assert len(text) < 1000


def test_the_sample_can_be_read(path: Path) -> None:
    assert load_tape(path).calls == sample().calls
    rewrite(path)
    assert load_tape(path).sweeps == sample().sweeps


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n", bytes(1000), npy(np.zeros(3))],
)
def test_what_is_no_zip(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refuses(path, "no zip file, or a damaged one")


def test_every_truncation(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 17):
        path.write_bytes(whole[:length])
        refuses(path, "no zip file|damaged|declare more bytes")


@pytest.mark.parametrize("name", ["tape", "array_0", "array_2"])
def test_a_missing_entry(path: Path, name: str) -> None:
    rewrite(path, **{name: None})
    refuses(path, rf"the entry {name}\.npy is missing")


def test_a_changed_number_fails_its_checksum(path: Path) -> None:
    whole = path.read_bytes()
    number = np.float32(5).tobytes()
    assert whole.count(number) == 1
    path.write_bytes(whole.replace(number, np.float32(6).tobytes()))
    refuses(path, r"array_0\.npy is damaged \(Bad CRC-32")


def test_a_compressed_entry_could_be_a_bomb(path: Path) -> None:
    rewrite(path, zipfile.ZIP_DEFLATED, array_0=bytes(50_000_000))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        refuses(path, "declare more bytes than the file has")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    # Nor may the file be padded until the sizes look right.
    save_tape(sample(), path)
    rewrite(path, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = bytes(60_000)
    refuses(path, "is compressed, which entries of a tape are not")


def test_pickles_are_never_opened(path: Path) -> None:
    class Explosive:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return exec, ("raise SystemExit('a pickle was run')",)

    bomb = np.array([Explosive()], dtype=object)
    for name in ("array_0", "tape"):
        save_tape(sample(), path)
        rewrite(path, **{name: npy(bomb)})
        refuses(path, f"{name}.npy (is object|does not hold text)")
        save_tape(sample(), path)
        rewrite(path, **{name: pickle.dumps(Explosive())})
        refuses(path, f"{name}.npy is no .npy")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (header("(2, 4)") + bytes(32), r"is float32\[2, 4\], where float32\[2, 3\] is expected"),
        (header("(6,)") + bytes(24), r"is float32\[6\], where"),
        (header("(2, 3)", "'<f8'") + bytes(48), r"is float64\[2, 3\], where"),
        (header("(2, 3)", "'>f4'") + bytes(24), r"is >f4\[2, 3\], where"),
        (header("(2, 3)", "'|O'") + bytes(48), r"is object\[2, 3\], where"),
        (header("(2, 3)", order="True") + bytes(24), "kind of .npy that tapes do not use"),
        (header("(2, 3)") + bytes(23), "is damaged"),
        (header("(2, 3)") + bytes(25), "longer than its numbers"),
        (header("(2, 3)"), "is damaged"),
        (header("(10**12, 10**12)"), "is no .npy"),
        (header("(1000000000000, 1000000000000)"), "where float32"),
        (header("(2, 3", ""), "is no .npy"),
        (header("[" * 400), "is no .npy"),
        (header("(-2, -3)") + bytes(24), "where float32"),
        (header("(2, 3)", "[('a', '<f4')]") + bytes(24), "where float32"),
        (b"\x93NUMPY\x02\x00" + header("(2, 3)")[8:] + bytes(24), "kind of .npy"),
        (b"\x93NUMPY\x09\x00" + bytes(24), "is no .npy|kind of .npy"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "is no .npy"),
        (b"", "is no .npy"),
    ],
)
def test_an_array_that_is_not_the_one(path: Path, raw: bytes, message: str) -> None:
    rewrite(path, array_0=raw)
    refuses(path, message)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (npy_of(b"\xff\xfe"), "does not hold JSON"),
        (npy_of("{"), "does not hold JSON"),
        (npy_of("[" * 100_000), "does not hold JSON"),
        (npy_of("1" * 10_000), "does not hold JSON"),
        (npy_of("null"), "does not begin with the format"),
        (npy_of("[]"), "does not begin with the format"),
        (npy_of('{"format": NaN}'), "holds NaN, which is no JSON"),
        (npy(np.zeros(4)), "does not hold text"),
        (npy(np.zeros((2, 2), np.uint8)), "does not hold text"),
        (npy_of("{}")[:-1], "does not hold text"),
    ],
)
def test_json_that_is_none(path: Path, raw: bytes, message: str) -> None:
    rewrite(path, tape=raw)
    refuses(path, message)


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
    ("keys", "item", "message"),
    [
        (["format"], "npz", "does not begin with the format 'gradwitness-tape'"),
        (["version"], 3, "version 3, where this gradwitness reads version 2"),
        (["version"], True, "version True"),
        (["version"], "1", "version '1'"),
        (["about"], ["x"], r"tape\.about: a dict is expected, not a list"),
        (["about", "torch"], 2, r"about\['torch'\]: a str is expected"),
        (["values"], None, "values: a list is expected, not nothing"),
        (["values"], {}, "values: a list is expected"),
        (["extra"], 1, "fields missing or not known: extra"),
        (["values", 0, "shape"], [3, 2], r"values\[0\].array: the entry array_0.npy is float32"),
        (["values", 0, "shape"], [-2, -3], r"shape\[0\]: a number from 0"),
        (["values", 0, "shape"], [2.0, 3.0], r"shape\[0\]: a int is expected, not a float"),
        (["values", 0, "shape"], [2**70, 0], r"shape\[0\]: a number from 0 to 2\^62"),
        (["values", 0, "dtype"], "float64", r"is float32\[2, 3\], where float64"),
        (["values", 0, "dtype"], "object", "no array can be of dtype 'object'"),
        (["values", 0, "dtype"], "O", "no array can be of dtype 'O'"),
        (["values", 0, "array"], 99, r"the entry array_99\.npy is missing"),
        (["values", 0, "array"], -1, "a number from 0"),
        (["values", 0, "array"], "../tape", "a int is expected"),
        (["values", 0, "array"], None, "layout: it does not belong"),
        (["values", 0, "layout", "strides"], [1], "layout: it does not belong"),
        (["values", 0, "layout", "strides"], [-3, 1], r"strides\[0\]: a number from 0"),
        (["values", 0, "layout", "offset"], -1, "offset: a number from 0"),
        (["values", 0, "requires_grad"], 1, "requires_grad: a bool is expected, not a int"),
        (["calls", 0, "arguments", "self", "ref"], 3, "there is no value of this number, of 3"),
        (["calls", 0, "arguments", "self", "ref"], -1, "there is no value"),
        (["calls", 0, "arguments", "self", "ref"], True, "a int is expected, not a bool"),
        (["calls", 0, "arguments", "self"], {"ref": 0, "x": 1}, "neither a reference nor"),
        (["calls", 0, "arguments", "self"], {"float": "7f"}, "16 hexadecimal digits"),
        (["calls", 0, "arguments", "self"], {"float": 1.0}, "a str is expected"),
        (["calls", 0, "arguments"], [], "arguments: a dict is expected"),
        (["calls", 0, "op"], "sum", "a name like aten.add.Tensor is expected"),
        (["calls", 0, "outputs"], [3], r"outputs\[0\]: there is no value"),
        (["calls", 0, "node"], 2, "there is no node of this number, of 2"),
        (["calls", 0, "source"], None, "source: a dict is expected, not nothing"),
        (["nodes", 0, "kind"], "mystery", "one of accumulate, "),
        (["nodes", 0, "edges", 0, "node"], 2, "there is no node"),
        (["nodes", 0, "edges", 0, "index"], -1, "a number from 0"),
        (["nodes", 0, "call"], 1, "there is no call of this number, of 1"),
        (["nodes", 1, "leaf"], 3, "there is no value"),
        (["nodes", 0, "saved"], [["x"]], "two things are expected, not 1"),
        (["sweeps", 0, "roots", 0, 1], 3, r"roots\[0\]\[1\]: there is no value"),
        (["sweeps", 0, "node_runs", 0, "node"], 2, "there is no node"),
        (["sweeps", 0, "node_runs", 0, "incoming"], 0, "incoming: a list is expected"),
        (["sweeps", 0, "leaves", 0, "after"], 3, "there is no value"),
        (["sweeps", 0, "limited_to"], [None], "a dict is expected"),
    ],
)
def test_json_that_is_no_tape(path: Path, keys: list[Any], item: Any, message: str) -> None:
    with_json(path, lambda data: at(*keys)(data, item))
    refuses(path, message)


def test_arguments_of_endless_depth(path: Path) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    with_json(path, lambda data: at("calls", 0, "arguments", "self")(data, deep))
    refuses(path, "recursion depth")


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
    for place, new in changes:
        place %= len(raw)
        raw[place : place + len(new)] = new
    path.write_bytes(raw)
    survives(path)


@MANY
@given(place=st.integers(0, 10**6), new=st.binary(max_size=8), cut=st.integers(0, 8))
def test_any_changed_bytes_of_the_json(path: Path, place: int, new: bytes, cut: int) -> None:
    # With a checksum that is right again.
    save_tape(sample(), path)
    with np.load(path) as archive:
        raw = archive["tape"].tobytes()
    place %= len(raw)
    rewrite(path, tape=npy_of(raw[:place] + new + raw[place + cut :]))
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
