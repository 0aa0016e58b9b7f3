"""Claims in HDF5 files, and in those that Keras writes."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from gradwitness._errors import FileFormatError, MissingExtraError
from gradwitness.claims.binary import check_growth, check_sizes, claims_in
from gradwitness.files.mapping import LEAST, MappedFile

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims

_WEIGHTS = "model.weights.h5"
# Keras 3 numbers the variables of a layer.
_ROLES = {"0": "kernel", "1": "bias"}


def read_h5(path: Path) -> Claims:
    """Read the datasets of an HDF5 file, or of the weights in a .keras file; it takes h5py.

    Nothing outside of the file is read, though it may refer to other files.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading .h5 and .keras files requires h5py: pip install 'gradwitness[hdf5]'. "
            "Or save the gradients as .npz."
        ) from None
    try:
        with h5py.File(_bytes_of(path) if path.suffix == ".keras" else path, "r") as file:
            arrays = _datasets(file, h5py, path)
    except (FileFormatError, MemoryError):
        raise
    except Exception as error:
        # A damaged file fails in many ways.
        raise FileFormatError(f"{path}: not a readable {path.suffix} file ({error})") from error
    return claims_in(arrays, path)


def _bytes_of(path: Path) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        check_sizes(archive, path, None)
        return io.BytesIO(archive.read(_WEIGHTS))


def _datasets(file: Any, h5py: Any, path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    size = 0
    mapped = None if path.suffix == ".keras" else MappedFile(path)

    def visit(name: str, item: Any) -> None:
        nonlocal size
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiuV":
            return
        if item.is_virtual or item.external:
            raise FileFormatError(f"{path}: {name} lies in another file, which is not read")
        size += item.size * item.dtype.itemsize
        check_growth(size, path)
        if not name.startswith("optimizer"):
            arrays[_named(name, item)] = item[()] if mapped is None else _read(item, h5py, mapped)

    # It follows no links, neither to other files nor back to what it has seen.
    file.visititems(visit)
    return arrays


def _read(item: Any, h5py: Any, mapped: MappedFile) -> Any:
    """Return the numbers of a dataset; those of a large one that lies in one stretch are mapped."""
    offset, needed = item.id.get_offset(), item.size * item.dtype.itemsize
    if (
        offset is None
        or needed < LEAST
        or item.dtype.kind != "f"
        or item.id.get_storage_size() != needed
        or not item.id.get_type().equal(h5py.h5t.py_create(item.dtype))
    ):
        return item[()]
    return mapped.array(item.dtype, item.shape, offset)


def _named(name: str, item: Any) -> str:
    """Return a dotted name; the first two variables of a layer of Keras are kernel and bias."""
    name = name.removeprefix("model_weights/")
    layer, _, number = name.rpartition("/vars/")
    if layer and set(item.parent) <= _ROLES.keys() and len(item.parent["0"].shape) > 1:
        name = f"{layer}/{_ROLES[number]}"
    return name.replace("/", ".")
