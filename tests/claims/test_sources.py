"""Arrays, functions and binary files: what they hold comes back, and no file is trusted."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claims.seeds import SEEDS
from gradwitness import FileFormatError, InputError, MissingExtraError
from gradwitness.claims.sources import read_claims
from gradwitness.files.dat import format_dat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.claims.claim import Run

safetensors_torch = pytest.importorskip("safetensors.torch")

FORMATS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class Payload:
    """What a malicious pickle holds: it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (type(self.path).touch, (self.path,))


def only(source: Any) -> Run:
    (run,) = read_claims(source).runs
    return run


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    tensor = torch.randn(3, 4).to(FORMATS[name]).requires_grad_()
    expected = tensor.detach().double().numpy()
    torch.save({"fc": {"weight": tensor}}, tmp_path / "a.pt")
    safetensors_torch.save_file({"fc.weight": tensor.detach()}, tmp_path / "a.safetensors")
    parameter = torch.nn.Parameter(tensor.detach())
    sources: list[Any] = [
        {"fc.weight": tensor},
        {"fc": {"weight": parameter}},
        lambda: {"fc.weight": tensor},
        tmp_path / "a.pt",
        str(tmp_path / "a.safetensors"),
    ]
    if name != "bfloat16":
        arrays: dict[str, Any] = {"fc.weight": tensor.detach().numpy()}
        np.savez(tmp_path / "a.npz", **arrays)
        sources.append(tmp_path / "a.npz")
    for source in sources:
        claim = only(source)["fc.weight"]
        assert claim.dtype == claim.array.dtype.name == name
        assert np.array_equal(claim.array.astype(np.float64), expected)
        assert claim.rounding == 0.0


def test_our_own_format_is_read_exactly(tmp_path: Path) -> None:
    array = np.array([0.1, 1e-3], ml_dtypes.bfloat16)
    (tmp_path / "a.dat").write_text(format_dat({"side": "torch"}, {"a": array}))
    claim = only(tmp_path / "a.dat")["a"]
    assert (claim.dtype, claim.rounding) == ("bfloat16", 0.0)
    assert claim.array.tobytes() == array.tobytes()


def test_gradients_among_other_entries(tmp_path: Path) -> None:
    one = torch.ones(2)
    torch.save({"a": {"data": one, "grad": 2 * one}, "b": {"w": 3 * one}}, tmp_path / "a.pt")
    run = only(tmp_path / "a.pt")
    assert {name: claim.array[0] for name, claim in run.items()} == {"a": 2, "b.w": 3}
    torch.save({"grads": {"a": one}, "weights": {"a": 5 * one}}, tmp_path / "a.pt")
    assert only(tmp_path / "a.pt")["a"].array[0] == 1


def test_a_gradient_that_is_none_is_said(snapshot: SnapshotAssertion) -> None:
    claims = read_claims({"a": np.ones(2), "b": None})
    assert list(claims.runs[0]) == ["a"]
    assert claims.notes == snapshot


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(1).expand(10**12),
        lambda: torch.sparse_coo_tensor(
            torch.tensor([[0]]), torch.tensor([1.0]), (10**12,), check_invariants=True
        ),
    ],
)
def test_a_tensor_that_would_fill_the_memory_is_refused(
    tmp_path: Path, make: Callable[[], torch.Tensor]
) -> None:
    torch.save({"grads": [{"w": make()}]}, tmp_path / "a.pt")
    with pytest.raises(FileFormatError, match=r"shape \(1000000000000,\)"):
        read_claims(tmp_path / "a.pt")


def test_a_small_tensor_may_be_expanded_or_sparse(tmp_path: Path) -> None:
    ones = torch.ones(1).expand(500, 400)
    torch.save({"a": ones, "b": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    run = only(tmp_path / "a.pt")
    assert np.array_equal(run["a"].array, np.ones((500, 400)))
    assert np.array_equal(run["b"].array, np.eye(3))


def test_an_error_of_the_users_function_is_kept(snapshot: SnapshotAssertion) -> None:
    def gradients() -> None:
        raise ZeroDivisionError("batch of none")

    def no_gradients() -> list[int]:
        return [1]

    with pytest.raises(InputError) as error:
        read_claims(gradients)
    assert str(error.value) == snapshot
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert error.value.__cause__.__traceback__ is not None
    with pytest.raises(InputError) as error:
        read_claims(no_gradients)
    assert str(error.value) == snapshot


@pytest.mark.parametrize(
    "source",
    [
        3,
        {},
        {"a": {"b": 1.0}, "a.b": 2.0},
        {"a": "text"},
        {"a": np.array([1j])},
        {"a": np.zeros(2, "V2")},
        {"a": torch.ones(2, dtype=torch.complex64)},
        "nowhere.txt",
        ".",
    ],
)
def test_what_cannot_be_used_is_named(source: Any, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(InputError) as error:
        read_claims(source)
    assert str(error.value) == snapshot


@pytest.mark.parametrize("ending", ["csv", "txt", "tsv"])
def test_a_binary_file_is_no_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"random.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(FileFormatError, match=r"this is not text\. Files in other formats"):
        read_claims(path)


def test_a_null_byte_in_a_name() -> None:
    with pytest.raises(InputError, match="null"):
        read_claims("\0")


def test_bfloat16_in_npz_is_refused_with_advice(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(2, ml_dtypes.bfloat16))
    with pytest.raises(FileFormatError) as error:
        read_claims(tmp_path / "a.npz")
    assert str(error.value).removeprefix(f"{tmp_path}/") == snapshot


@pytest.mark.parametrize("ending", ["pt", "pth", "npz", "safetensors", "json", "txt"])
def test_no_code_in_a_file_is_run(tmp_path: Path, ending: str) -> None:
    trace = tmp_path / "made"
    content = pickle.dumps({"a": Payload(trace)})
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        stream = io.BytesIO()
        np.save(stream, np.array([Payload(trace)], object), allow_pickle=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", stream.getvalue())
    elif ending == "pt":
        torch.save({"a": Payload(trace)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(FileFormatError):
        read_claims(path)
    assert not trace.exists()
    # It would have done harm.
    pickle.loads(content)  # noqa: S301
    assert trace.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_arrays_are_read_piece_by_piece(tmp_path: Path, save: Any) -> None:
    array = np.random.default_rng(0).integers(0, 9, (1000, 700)).astype(np.float32)
    save(tmp_path / "a.npz", a=array, b=array.T, c=np.empty((0, 3)))
    tracemalloc.start()
    run = only(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(run["a"].array, array)
    assert np.array_equal(run["b"].array, array.T)
    assert run["c"].array.shape == (0, 3)
    # No array is ever there twice.
    assert peak < 2 * array.nbytes + 2.5e6


def test_an_array_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(700_000.0))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[-1000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match="another CRC-32"):
        read_claims(tmp_path / "a.npz")


def test_claimed_sizes_take_no_memory(tmp_path: Path) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000), }"
    text = header.ljust(117).encode() + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy + bytes(8))
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abcdefgh":
            archive.writestr(f"{name}.npy", npy + bytes(8_000_000))
    bomb = bytearray((tmp_path / "b.npz").read_bytes())
    (tmp_path / "b.npz").write_bytes(
        bomb.replace((8_000_000 + len(npy)).to_bytes(4, "little"), b"\xf0" * 4)
    )
    tracemalloc.start()
    for name, message in (("a.npz", r"shape \(1000000, 1000\)"), ("b.npz", "compression")):
        with pytest.raises(FileFormatError, match=message):
            read_claims(tmp_path / name)
    size = (2**40).to_bytes(8, "little")
    (tmp_path / "a.safetensors").write_bytes(size + b"{}")
    with pytest.raises(FileFormatError, match="safetensors"):
        read_claims(tmp_path / "a.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_what_grows_to_more_than_gradients_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Zeros shrink to a thousandth, so this is what a bomb looks like; real ones are only larger.
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000))
    assert read_claims(tmp_path / "a.npz").runs[0]["a"].array.shape == (1_000_000,)
    monkeypatch.setattr("gradwitness.claims.binary._ALWAYS_ALLOWED", 1 << 20)
    with pytest.raises(FileFormatError, match=r"write it again without compression"):
        read_claims(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=np.zeros(1_000_000))
    assert read_claims(tmp_path / "b.npz").runs[0]["a"].array.shape == (1_000_000,)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.ones(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", content.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w.npy", content.getvalue())
    with pytest.raises(FileFormatError, match="two arrays named 'w'"):
        read_claims(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a.npz", "a.txt", "a.json", "a.pt"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="save what comes from it to a file"):
        read_claims(tmp_path / name)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(n for n in SEEDS if not n.endswith(".txt"))), st.data())
def test_damaged_files_end_in_one_kind_of_error(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (tmp_path / name).write_bytes(content)
    try:
        claims = read_claims(tmp_path / name)
    except InputError:
        return
    assert any(claims.runs)


def test_arrays_need_neither_torch_nor_safetensors(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    code = """
import sys, numpy as np
from gradwitness.claims.sources import read_claims
read_claims({"a": np.ones(2)})
assert "torch" not in sys.modules and "safetensors" not in sys.modules
sys.modules.update(torch=None, safetensors=None)
for name in ("a.pt", "a.safetensors"):
    open(name, "ab").close()
    try:
        read_claims(name)
    except Exception as error:
        print(type(error).__name__, "pip install" in str(error))
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == [f"{MissingExtraError.__name__} True"] * 2
