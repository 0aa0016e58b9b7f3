"""Files that are broken, or made to do harm: what each holds, by its name."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "canary"
GOOD = {"w": np.array([1.0, 2.0]), "b": np.array([3.0])}
_MEBI = 2**20


class Canary:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (CANARY,)


def pickled() -> bytes:
    return pickle.dumps({"w": Canary()}, protocol=2)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(
    shape: str, descr: str = "'<f8'", order: str = "False", data: bytes = bytes(16)
) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    return raw_header(text.encode(), data)


def raw_header(text: bytes, data: bytes = bytes(16), version: bytes = b"\x02\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<I", len(text)) + text + data


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], deflated: bool = False) -> bytes:
    file = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def saved(**arrays: Any) -> bytes:
    return zipped(*((f"{name}.npy", npy(array)) for name, array in arrays.items()))


def bomb(name: str, begins: bytes, mebibytes: int, declared: int | None = None) -> bytes:
    """Return a zip file whose one entry grows a thousandfold.

    Its compressed blocks are one block, again and again. ``declared`` is the size that it claims.
    """
    size = len(begins) + mebibytes * _MEBI
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = squeeze.compress(begins) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(_MEBI)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    content = first + block * mebibytes + squeeze.flush()
    told = size if declared is None else declared
    fields = (0, 8, 0, 0x21, 0, len(content), told, len(name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, *fields[:4], *fields[4:])
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *fields, 0, 0, 0, 0, 0)
    directory = central + name.encode()
    start = len(local) + len(name) + len(content)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)
    return local + name.encode() + content + directory + end


def encrypted() -> bytes:
    data = bytearray(saved(**GOOD))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


def method(number: int) -> bytes:
    data = bytearray(saved(**GOOD))
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(mark) + offset] = number
    return bytes(data)


def twice(name: str) -> bytes:
    data = zipped((name, npy(GOOD["w"])), (name[:-1] + "_", npy(GOOD["b"])))
    return data.replace((name[:-1] + "_").encode(), name.encode())


def tensors(**parts: Any) -> bytes:
    """Return a .safetensors file with this header."""
    return headed(json.dumps(parts).encode())


def headed(text: bytes, data: bytes = bytes(16), length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str = "F64", shape: Any = (2,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def torch_saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def nested(depth: int) -> Any:
    inner: Any = {"w": torch.ones(2)}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def circular() -> dict[str, Any]:
    own: dict[str, Any] = {"w": torch.ones(2)}
    own["self"] = own
    return own


DEEP = 100_000
LONG = 10_000
LONE = "\ud800"


def archives() -> Iterator[tuple[str, bytes]]:
    good = saved(**GOOD)
    yield "empty.npz", b""
    yield "zeros.npz", bytes(1000)
    yield "truncated.npz", good[:100]
    yield "cut in its directory.npz", good[:-30]
    yield "wrong magic.npz", b"PK\x07\x08" + good[4:]
    yield "npy.npz", npy(GOOD["w"])
    yield "text.npz", b"w = [1, 2]\n"
    yield "pickle.npz", pickled()
    yield "no arrays.npz", zipped(("readme.txt", b"nothing"))
    yield "no entries.npz", zipped()
    yield "pickle inside.npz", zipped(("w.npy", npy(np.array([Canary(), 1], dtype=object))))
    yield "pickle called npy.npz", zipped(("w.npy", pickled()))
    hidden = raw_header(
        b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", pickled()
    )
    yield "objects in fields.npz", zipped(("w.npy", hidden))
    yield "bomb.npz", bomb("w.npy", header("(402653184,)", data=b""), 3072)
    yield "bomb that lies.npz", bomb("w.npy", header("(402653184,)", data=b""), 3072, 4000)
    yield "bomb of bombs.npz", zipped(("w.npy", bomb("w.npy", b"", 3072)), deflated=True)
    yield "huge shape.npz", zipped(("w.npy", header("(1000000000000,)")))
    yield "overflowing shape.npz", zipped(("w.npy", header("(4294967296, 4294967296)")))
    yield "shape of a googol.npz", zipped(("w.npy", header(f"({10**100},)")))
    yield "huge empty shape.npz", zipped(("w.npy", header("(0, 9223372036854775807)", data=b"")))
    yield "sixty-five axes.npz", zipped(("w.npy", header(f"({'1, ' * 65})")))
    yield "negative shape.npz", zipped(("w.npy", header("(-2,)")))
    yield "negative twice.npz", zipped(("w.npy", header("(-2, -1)")))
    yield "shape of truth.npz", zipped(("w.npy", header("(True,)")))
    yield "shape of text.npz", zipped(("w.npy", header("'2'")))
    yield "shape of fractions.npz", zipped(("w.npy", header("(2.0,)")))
    yield "code in its header.npz", zipped(("w.npy", header(f"__import__('os').mkdir('{CANARY}')")))
    yield "deep header.npz", zipped(("w.npy", raw_header(b"(" * DEEP)))
    yield "deep short header.npz", zipped(("w.npy", raw_header(b"(" * 9000)))
    yield "long header.npz", zipped(("w.npy", raw_header(b" " * 2 * _MEBI)))
    yield "endless header.npz", zipped(("w.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"))
    yield "no header.npz", zipped(("w.npy", b""))
    yield "version 9.npz", zipped(("w.npy", raw_header(b"{}", version=b"\x09\x00")))
    yield "ends early.npz", zipped(("w.npy", header("(2,)", data=bytes(9))))
    yield "unknown dtype.npz", zipped(("w.npy", header("(2,)", "'<q99'")))
    yield "dtype of no size.npz", zipped(("w.npy", header("(1000000000000,)", "'|V0'")))
    yield "huge dtype.npz", zipped(("w.npy", header("(2,)", "'|V2000000000'")))
    yield "records.npz", saved(w=np.zeros(2, [("a", "f4"), ("b", "i4")]))
    yield "text as numbers.npz", saved(w=np.array(["1", "2"]))
    yield "dates.npz", saved(w=np.array(["2026-11-29"], "M8[D]"))
    yield "raw bytes.npz", saved(w=np.zeros(2, "V2"))
    yield "mixed dtypes.npz", saved(b=np.ones(1), w=np.array(["x"]))
    yield "two of one name.npz", twice("w.npy")
    yield "encrypted.npz", encrypted()
    yield "unknown method.npz", method(97)
    yield "xz that is none.npz", method(14)
    yield "nested names.npz", zipped(("a.npy", npy(1.0)), ("a.npy/w.npy", b"x"))
    yield (
        "another's names.npz",
        zipped(
            *((name, npy(GOOD["w"])[:-1]) for name in ("../../w.npy", "/etc/w.npy", "C:\\w.npy"))
        ),
    )
    yield "null in a name.npz", zipped(("w\0.npy", b"x"), ("w.npy", b""))
    yield "escape in a name.npz", zipped(("\x1b]0;w\x07.npy", b"x"))
    yield "long name.npz", zipped(("w" * LONG + ".npy", b"x"))


def safetensors() -> Iterator[tuple[str, bytes]]:
    good = tensors(w=tensor())
    yield "empty.safetensors", b""
    yield "short.safetensors", b"\1\0\0"
    yield "truncated.safetensors", good[:-8]
    yield "surplus.safetensors", good + bytes(8)
    yield "huge header.safetensors", headed(b"{}", length=2**63)
    yield "long header.safetensors", headed(b"{}", length=10**8)
    yield "no json.safetensors", headed(b"{w}")
    yield "deep.safetensors", headed(b'{"w":' * DEEP)
    yield "utf16.safetensors", headed(json.dumps({"w": tensor()}).encode("utf-16"))
    yield "negative shape.safetensors", tensors(w=tensor(shape=(-2,)))
    yield "huge shape.safetensors", tensors(w=tensor(shape=(10**12,)))
    yield "overflowing shape.safetensors", tensors(w=tensor(shape=(2**32, 2**32)))
    yield "wrong offsets.safetensors", tensors(w=tensor(offsets=(8, 4)))
    yield "far offsets.safetensors", tensors(w=tensor(offsets=(0, 2**62)))
    yield "one over the other.safetensors", tensors(w=tensor(), b=tensor())
    yield "unknown dtype.safetensors", tensors(w=tensor("F63"))
    yield "integers of truth.safetensors", tensors(w=tensor("BOOL", (16,)), b=1)
    yield (
        "two of one name.safetensors",
        headed(b'{"w": %s, "w": %s}' % ((json.dumps(tensor()).encode(),) * 2)),
    )
    yield "no tensors.safetensors", headed(b"{}", b"")
    yield "pickle.safetensors", pickled()


def torch_files() -> Iterator[tuple[str, bytes]]:
    good, zero = torch_saved({"w": torch.ones(2)}), torch.zeros(1, 1, dtype=torch.long)
    yield "empty.pt", b""
    yield "truncated.pt", good[:-100]
    yield "pickle.pt", pickled()
    yield "pickle.pth", pickled()
    yield "pickle in a zip.pt", torch_saved({"w": Canary()})
    yield "old pickle.pt", torch_saved({"w": Canary()}, _use_new_zipfile_serialization=False)
    yield "module.pt", torch_saved(torch.nn.Linear(1, 1))
    yield "text.pt", b"w = [1, 2]"
    yield "no tensors.pt", torch_saved({"epoch": 3, "name": "x"})
    yield "a number.pt", torch_saved(3)
    yield "expanded.pt", torch_saved({"w": torch.ones(1).expand(2**36)})
    yield (
        "sparse.pt",
        torch_saved(
            {"w": torch.sparse_coo_tensor(zero, torch.ones(1), (2**36,), check_invariants=True)}
        ),
    )
    yield "on no device.pt", torch_saved({"w": torch.ones(2**30, device="meta")})
    yield "complex.pt", torch_saved({"w": torch.ones(2, dtype=torch.complex64)})
    yield "deep.pt", torch_saved(nested(200))
    yield "circular.pt", torch_saved(circular())
    yield "bomb.pt", bomb("archive/data.pkl", b"\x80\x02", 3072)
    yield "npz.pt", saved(**GOOD)


def jsons() -> Iterator[tuple[str, bytes]]:
    yield "empty.json", b""
    yield "pickle.json", pickled()
    yield "truncated.json", b'{"w": [1.0, 2.'
    yield "open.json", b'{"w": [1.0, 2.0'
    yield "deep lists.json", b'{"w": ' + b"[" * DEEP + b"]" * DEEP + b"}"
    yield "deep and open.json", b"[" * DEEP
    yield "deep objects.json", b'{"a":' * DEEP + b"1" + b"}" * DEEP
    yield "deep lists of objects.json", b'[{"a":' * DEEP + b"1" + b"}]" * DEEP
    yield "two of one name.json", b'{"w": [1.0], "w": [2.0]}'
    yield "two when joined.json", b'{"a": {"b": [1.0]}, "a.b": [2.0]}'
    yield "surplus.json", b'{"w": [1.0]} {"w": [2.0]}'
    yield "ragged.json", b'{"w": [[1.0, 2.0], [3.0]]}'
    yield "mixed.json", b'{"w": [1.0, "2", null]}'
    yield "no numbers.json", b'{"w": "x"}'
    yield "text.json", b"w = [1, 2]"
    yield "utf16 cut.json", '{"w": [1.0'.encode("utf-16")
    yield "bom twice.json", b"\xef\xbb\xbf\xef\xbb\xbf" + b'{"w": [1.0]}'
    yield "carriage returns.json", b'{"w":\r\n[1.0,\r\n,2.0]}\r\n'
    yield "null byte.json", b'{"w": [1.0\0]}'
    yield "escapes.json", b'{"\x1b]0;w\x07": [1.0'
    yield "lone surrogate.json", b'{"\\ud800": [1.0]; }'
    yield "long name.json", b'{"' + b"w" * LONG + b'": [1.0}'
    yield "endless name.json", b'{"' + b"w" * 10**6
    yield "endless word.json", b'{"w": ' + b"1" * 10**6 + b"x}"
    yield "endless number.json", b'{"w": [' + b"1" * 10**6 + b"]}"
    yield "dots.json", b'{"w": [1.0, ..., 2.0]}'
    yield "invalid utf-8.json", b'{"\xff\xfe": [1.0]}'


def texts() -> Iterator[tuple[str, bytes]]:
    first = b"# gradwitness-gradients: 1\n"
    yield "empty.txt", b""
    yield "pickle.txt", pickled()
    yield "words.txt", b"nothing to see here\n"
    yield "binary.txt", bytes(range(256)) * 10
    yield "deep.txt", b"w = " + b"[" * DEEP
    yield "deep and closed.txt", b"w = " + b"[" * DEEP + b"1" + b"]" * DEEP
    yield "open.txt", b"w = [1.0, 2.0"
    yield "ragged.txt", b"w = [[1.0, 2.0], [3.0]]\n"
    yield "one long line.txt", b"[" + b"1" * 10**6
    yield "null bytes.txt", b"w\0 = \0[1\0"
    yield "utf16.txt", "w = [1.0".encode("utf-16")
    yield "only a bom.txt", b"\xff\xfe"
    yield "huge.dat", first + b"tensor w float32 1000000000000\n1\n"
    yield "overflowing.dat", first + b"tensor w float32 4294967296 4294967296\n1\n"
    yield "many digits.dat", first + b"tensor w float32 " + b"9" * 5000 + b"\n1\n"
    yield "negative.dat", first + b"tensor w float32 -2\n1\n2\n"
    yield "no dtype.dat", first + b"tensor w\n1\n"
    yield "objects.dat", first + b"tensor w object 1\n1\n"
    yield "words.dat", first + b"tensor w float32 1\nx\n"
    yield "twice.dat", first + b"tensor w float32 1\n1\n" * 2
    yield "latin.dat", first + b"tensor \xe9 float32 1\n1\n"
    yield "many axes.dat", first + b"tensor w float32" + b" 1" * 100 + b"\n1\n"
    yield "nothing.dat", first


def tasks() -> Iterator[tuple[str, bytes]]:
    good = b'tape = "ok.npz"\n'
    yield "empty.toml", b""
    yield "pickle.toml", pickled()
    yield "truncated.toml", b'tape = "ok'
    yield "deep.toml", good + b"marks = " + b"[" * DEEP
    yield "deep tables.toml", good + b"[" + b".".join([b"a"] * DEEP) + b"]\n"
    yield "null.toml", good + b"title = '\0'"
    yield "null path.toml", b'tape = "a\\u0000.npz"'
    yield "utf16.toml", good.decode().encode("utf-16")
    yield "latin.toml", good + b'title = "\xe9"'
    yield "twice.toml", good * 2
    yield "both.toml", good + b'program = "p.py:step"'
    yield "numbers.toml", b"tape = 3"
    yield "unknown.toml", good + b"\nx = 1"
    yield "endless.toml", good + b"[marks]\neach = 1e400"
    yield "not a number.toml", good + b"[marks]\neach = nan"
    yield "many digits.toml", good + b"[marks]\neach = " + b"9" * 5000
    yield "negative.toml", good + b"[marks]\neach = -1"
    yield "no marks for.toml", good + b'[marks]\n"\\u001b]0;x" = 1'
    yield "long name.toml", good + b"[marks]\n" + b"w" * LONG + b" = 1"
    yield "seconds.toml", good + b"[submission]\nseconds = inf"
    yield "format.toml", good + b'[submission]\nformat = "object"'
    yield "data absent.toml", good + b'[submission]\ndata = "absent.npz"'
    yield "data is a pipe.toml", good + b'[submission]\ndata = "pipe"'
    yield "data that is pickled.toml", good + b'[submission]\ndata = "pickle inside.npz"'
    yield "data that grows.toml", good + b'[submission]\ndata = "bomb.npz"'
    yield "tape is a pipe.toml", b'tape = "pipe.npz"'
    yield "itself.toml", b'tape = "itself.toml"'


ENDINGS = (".npz", ".json", ".pt", ".safetensors", ".txt", ".toml", ".py")
THINGS = ("folder", "pipe", "loop", "device", "nowhere", "absent")


def things() -> list[str]:
    """Return names of what is no file, or none that can be read."""
    named = ["w\0.npz", "n" * LONG + ".json", "\x1b]0;x\x07.npz", f"{LONE}.json"]
    return [f"{thing}{ending}" for ending in ENDINGS for thing in THINGS] + named


def make_things(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for ending in ENDINGS:
        (folder / f"folder{ending}").mkdir()
        os.mkfifo(folder / f"pipe{ending}")
        (folder / f"loop{ending}").symlink_to(folder / f"loop{ending}")
        (folder / f"device{ending}").symlink_to("/dev/zero")
        (folder / f"nowhere{ending}").symlink_to(folder / "gone")


def forge(data: dict[str, Any], path: str, item: Any) -> None:
    """Put something else in place of a part of a recording's JSON: ``nodes.0.edges``."""
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    part: Any = data
    for step in steps:
        part = part[step]
    part[last] = item


_FIRST = {"node": 0, "index": 0}
_FAR = {"node": 0, "index": 2**61}
_ABSENT = {
    "dtype": "float32", "layout": None, "name": "", "requires_grad": False,
    "array": None, "sparse": 0,
}  # fmt: skip
# Recordings that contradict themselves: refused.
FORGED = [
    ("nodes.3.edges", [_FIRST, None]),
    ("nodes.0.edges", [_FIRST, _FIRST]),
    ("sweeps.0.roots", [[_FAR, None]]),
    ("sweeps.0.captured", [[_FAR, 3]]),
    ("sweeps.0.after", 2**61),
    ("sweeps.0.node_runs.0.after", 2**61),
    ("values.4", _ABSENT | {"shape": [2**61, 2**61]}),
]
_NAME = "\x1b]0;x\x07\n::error::<script>\u202e\0"
_LAYOUT = {"storage": 7, "offset": 0, "strides": [2**33]}


def called(op: str, **arguments: Any) -> list[tuple[str, Any]]:
    return [("calls.0.op", f"aten.{op}"), ("calls.0.arguments", arguments)]


# Recordings that no program made, but that hold together: judged.
ODD = [
    [("values.4", _ABSENT | {"shape": [2**33]})],
    [("values.4", _ABSENT | {"shape": [2**57]})],
    [("values.4.layout", _LAYOUT), ("values.5.layout", _LAYOUT | {"strides": [1]})],
    [("values.4.layout", _LAYOUT | {"offset": 2**61, "strides": [1]})],
    [("nodes.0.edges", [_FAR | {"node": 1}, None])],
    called("ones.default", size=[2**33]),
    called("zeros.default", size=[2**40]),
    called("arange.default", end=2**33),
    called("repeat.default", self={"ref": 0}, repeats=[2**33]),
    called("constant_pad_nd.default", self={"ref": 0}, pad=[0, 2**33], value=0.0),
    called("mul.Tensor", self={"ref": 10}, other={"ref": 4}),
    called("mul.Tensor", self="x", other=[[None]]),
    called("mul.Tensor", self=10**400, other={"ref": 0}),
    called("mul.Tensor"),
    called("__import__.os", name="os"),
    [("calls.0.source", {"module": _NAME, "line": f"{_NAME}:1"}), ("values.0.name", _NAME)],
    [("values.0.name", LONE), ("nodes.0.name", LONE), ("about", {LONE: LONE})],
    [("values.0.name", "n" * LONG), ("nodes.0.name", "n" * LONG)],
    [("sweeps.0.node_runs.0.incoming", [11] * 1000)],
    [("nodes.0.outputs", [10] * 1000)],
    [("nodes.0.kind", "accumulate")],
    [("nodes.7.leaf", None)],
]
