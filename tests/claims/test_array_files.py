"""Files of arrays: .npy, MATLAB's .mat, HDF5 and Keras; none runs code, or fills the memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from gradwitness import FileFormatError, MissingExtraError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.claims.claim import Run

W = np.array([[0.125, -0.25], [0.375, 0.5], [0.625, -0.75]], np.float32)
B = np.array([1.5, -2.5, 3.5])


def only(path: Path) -> Run:
    (run,) = read_claims(path).runs
    return run


def test_an_npy_is_named_as_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "fc.weight.npy", W.T)
    claim = only(tmp_path / "fc.weight.npy")["fc.weight"]
    assert np.array_equal(claim.array, W.T)
    assert claim.dtype == "float32"


@pytest.mark.parametrize("size", [3, 1 << 19])
def test_what_follows_the_array_of_an_npy_is_told(tmp_path: Path, size: int) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, np.ones(size))
        file.flush()
        assert not read_claims(tmp_path / "a.npy").notes
        np.save(file, B)
    claims = read_claims(tmp_path / "a.npy")
    # A header of 128 bytes, and three float64.
    assert claims.notes == ("a.npy: 152 bytes after its first array were not read",)
    assert claims.runs[0]["a"].array.shape == (size,)


def test_entries_of_an_npz_that_are_no_arrays_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=W)
    assert not read_claims(tmp_path / "a.npz").notes
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "by hand")
        archive.writestr("b.NPY", "by hand")
    claims = read_claims(tmp_path / "a.npz")
    assert claims.notes == ("a.npz: only entries in .npy were read, not 'readme.txt' and 'b.NPY'",)
    assert list(claims.runs[0]) == ["w"]


def test_a_length_that_is_no_integer_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (True, 4)}
    np.lib.format.write_array_header_1_0(content, header)
    (tmp_path / "a.npy").write_bytes(content.getvalue() + bytes(16))
    with pytest.raises(FileFormatError, match=r"declares an array of shape \(True, 4\)"):
        read_claims(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_formats_of_eight_bits_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("safetensors")
    tensor = {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}
    header = json.dumps({"w": tensor}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(FileFormatError, match=f"'w' is of {dtype}, .* float16 or wider"):
        read_claims(path)


def test_an_npy_of_objects_or_too_few_bytes_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"w": W}), allow_pickle=True)
    with pytest.raises(FileFormatError, match="Python objects"):
        read_claims(tmp_path / "a.npy")
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    text = header.ljust(117).encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
    )
    with pytest.raises(FileFormatError, match=r"shape \(1000000, 1000000\)"):
        read_claims(tmp_path / "a.npy")


@pytest.mark.parametrize("is_compressed", [False, True])
def test_what_matlab_saves(tmp_path: Path, is_compressed: bool) -> None:
    cell = np.empty(2, object)
    cell[:] = [W, B]
    contents = {
        "W1": W,
        "b1": B,
        "grads": {"fc": {"weight": W, "bias": B}, "note": "text"},
        "cell": cell,
        "sparse": scipy.sparse.csc_matrix(np.eye(3)),
    }
    scipy.io.savemat(tmp_path / "a.mat", contents, do_compression=is_compressed)
    run = only(tmp_path / "a.mat")
    assert list(run) == [
        "W1",
        "b1",
        "grads.fc.weight",
        "grads.fc.bias",
        "cell.0",
        "cell.1",
        "sparse",
    ]
    assert np.array_equal(run["W1"].array, W)
    assert run["W1"].dtype == "float32"
    assert np.array_equal(run["grads.fc.bias"].array.reshape(-1), B)
    assert np.array_equal(run["sparse"].array, np.eye(3))
    scipy.io.savemat(tmp_path / "b.mat", {"W1": W}, format="4")
    assert np.array_equal(only(tmp_path / "b.mat")["W1"].array, W)


def test_a_mat_file_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"w": np.zeros(2)}, do_compression=True)
    header = (tmp_path / "a.mat").read_bytes()[:128]
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    scipy.io.savemat(tmp_path / "b.mat", {"w": scipy.sparse.csc_matrix((10**6, 10**6))})
    tracemalloc.start()
    for name in ("a.mat", "b.mat"):
        with pytest.raises(FileFormatError, match="made to exhaust memory"):
            read_claims(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0" + bytes(200), b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"]
)
def test_a_mat_file_that_is_none_is_refused(
    tmp_path: Path, content: bytes, snapshot: SnapshotAssertion
) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FileFormatError) as error:
        read_claims(tmp_path / "a.mat")
    assert str(error.value).removeprefix(f"{tmp_path}/") == snapshot


def keras_layers(file: Any, *, kernel: str, bias: str) -> None:
    """Write two dense layers; the names are those of Keras 2 or 3."""
    for name, shift in (("dense", 0), ("dense_1", 1)):
        file[f"{name}/{kernel}"] = W.T + shift
        file[f"{name}/{bias}"] = B + shift


def test_what_h5py_and_keras_save(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fc.weight"] = W
        file.create_dataset("fc/bias", data=B, compression="gzip")
        file["names"] = ["fc"]
    assert {name: c.array.shape for name, c in only(tmp_path / "a.h5").items()} == {
        "fc.bias": (3,),
        "fc.weight": (3, 2),
    }
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        keras_layers(file.create_group("layers"), kernel="vars/0", bias="vars/1")
        file["optimizer/vars/0"] = np.int64(3)
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", stream.getvalue())
    (tmp_path / "b.h5").write_bytes(stream.getvalue())
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        keras_layers(
            file.create_group("model_weights"), kernel="dense/kernel:0", bias="dense/bias:0"
        )
        file["optimizer_weights/m"] = W
    names = [
        "layers.dense.kernel",
        "layers.dense.bias",
        "layers.dense_1.kernel",
        "layers.dense_1.bias",
    ]
    assert list(only(tmp_path / "a.keras")) == list(only(tmp_path / "b.h5")) == names
    old = only(tmp_path / "c.hdf5")
    assert sorted(old) == [
        "dense.dense.bias:0",
        "dense.dense.kernel:0",
        "dense_1.dense.bias:0",
        "dense_1.dense.kernel:0",
    ]
    assert np.array_equal(old["dense_1.dense.kernel:0"].array, W.T + 1)


def test_an_hdf5_file_reads_no_other_file_and_does_not_grow(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(4.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["w"] = B
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/w")
        file["loop"] = h5py.SoftLink("/")
        file["own"] = B
    assert list(only(tmp_path / "a.h5")) == ["own"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (4,), "f8", external=[(str(secret), 0, 32)])
    with pytest.raises(FileFormatError, match="another file"):
        read_claims(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (3,))
        file.create_virtual_dataset("w", layout)
    with pytest.raises(FileFormatError, match="another file"):
        read_claims(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (10**6, 10**6), "f8", chunks=(1000, 1000))
    with pytest.raises(FileFormatError, match="made to exhaust memory"):
        read_claims(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("h5py")
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(FileFormatError, match="not a readable"):
        read_claims(tmp_path / name)
    if name == "a.keras":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(300 << 20))
        with pytest.raises(FileFormatError, match="exhaust memory"):
            read_claims(tmp_path / name)


def test_without_h5py_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.keras").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"pip install 'gradwitness\[hdf5\]'"):
        read_claims(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.joblib", "a.txt", "a", "a.csv", "a.npy"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_with_what_to_do_instead(
    tmp_path: Path, name: str, protocol: int
) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"w": W.tolist()}, protocol))
    with pytest.raises(FileFormatError) as error:
        read_claims(tmp_path / name)
    if protocol or name in ("a.pkl", "a.pickle", "a.joblib"):
        assert "numpy.savez('gradients.npz', **gradients)" in str(error.value)
