"""Claims in binary files. No file is trusted: none runs code or claims memory in vain."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError, MissingExtraError
from gradwitness.claims.mappings import claims_of

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims

# Zeros compress to a thousandth; a file that grows further is made to fill the memory.
_MOST_GROWTH = 1100
_MOST_ENTRIES = 1_000_000
_MOST_VIRTUAL = 1 << 30  # bytes of a tensor that the file does not write out
_PIECE = 1 << 18


def read_npz(path: Path) -> Claims:
    """Read the arrays of an .npz.

    Raises
    ------
    FileFormatError
        If it is none, is damaged, or holds Python objects.
    """
    return _claims(read_arrays(path), path)


def read_arrays(path: Path, most: int | None = None) -> dict[str, Any]:
    """Read the arrays of an .npz as they are, of so many bytes in all at most.

    Raises
    ------
    FileFormatError
        If it is none, is damaged, holds Python objects, or more than that.
    """
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path, most)
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    with archive.open(entry) as file:
                        array = _read_npy(file, entry.file_size)
                    arrays[entry.filename.removesuffix(".npy")] = array
    except FileFormatError:
        raise
    except Exception as error:
        # A damaged zip file, or the header of an .npy, fails in many ways.
        raise FileFormatError(
            f"{path}: it is no .npz of plain arrays ({error}). Write it with numpy.savez."
        ) from error
    return arrays


def _check_sizes(archive: zipfile.ZipFile, path: Path, most: int | None) -> None:
    entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    room = path.stat().st_size
    if declared > room * _MOST_GROWTH or len(entries) > _MOST_ENTRIES:
        raise FileFormatError(
            f"{path}: its {len(entries)} entries declare {declared} bytes in a file of {room}, "
            "more than compression saves. It is damaged, or made to fill the memory."
        )
    if most is not None and declared > most:
        raise FileFormatError(f"{path}: it holds {declared} bytes, more than the {most} allowed")


def _read_npy(file: Any, size: int) -> Any:
    """Read one array, after its header has been held against the bytes that are there."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of .npy")
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which can run code when they are read")
    wanted = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or wanted > size:
        raise ValueError(f"an array of shape {shape} is declared in {size} bytes")
    array = np.empty(wanted // max(dtype.itemsize, 1), dtype)
    # Piece by piece into its place: it is never there twice.
    space = array.view(np.uint8).data if wanted else memoryview(bytearray())
    at = 0
    while at < wanted:
        count = file.readinto(space[at : at + _PIECE])
        if not count:
            raise ValueError(f"an array of {wanted} bytes ends after {at}")
        at += count
    return array.reshape(shape, order="F" if is_fortran else "C")


def read_safetensors(path: Path) -> Claims:
    """Read the tensors of a .safetensors file.

    Raises
    ------
    MissingExtraError
        If the package safetensors is not installed.
    FileFormatError
        If the file is none of these, or damaged.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading .safetensors needs the package safetensors: pip install safetensors"
        ) from None
    # NumPy knows bfloat16 by name once ml_dtypes is imported, which engine.floats does.
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise FileFormatError(
            f"{path}: it is no .safetensors that can be read ({error})"
        ) from error
    return _claims(arrays, path)


def read_pt(path: Path) -> Claims:
    """Read the tensors of what ``torch.save`` wrote, nested dicts too, without running its code.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    FileFormatError
        If it is damaged, or holds other objects than tensors, numbers and containers.
    """
    try:
        from gradwitness.claims.torch_files import load_tensors
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading what torch.save wrote needs torch: pip install 'gradwitness[torch]'. "
            "Or save the gradients as .npz."
        ) from None
    loaded = load_tensors(path)
    _check_tensors(loaded, path)
    return _claims(_gradients(loaded), path)


def _check_tensors(loaded: Any, path: Path) -> None:
    """Refuse tensors that a few bytes describe: one number expanded, or hardly any not zero."""
    parts: Any = ()
    if isinstance(loaded, Mapping):
        parts = loaded.values()
    elif isinstance(loaded, list | tuple):
        parts = loaded
    for part in parts:
        _check_tensors(part, path)
    if not hasattr(loaded, "element_size") or getattr(loaded, "is_nested", False):
        return
    room = path.stat().st_size
    if loaded.numel() * loaded.element_size() > max(_MOST_GROWTH * room, _MOST_VIRTUAL):
        raise FileFormatError(
            f"{path}: a tensor of shape {tuple(loaded.shape)} in a file of {room} bytes. It is "
            "expanded or sparse, and too large to be written out."
        )


def _gradients(loaded: Any) -> Any:
    """Return what is about gradients: the entry that is called so, if there is one."""
    if isinstance(loaded, Mapping):
        for key in ("grad", "grads", "gradients"):
            if isinstance(loaded.get(key), Mapping):
                return loaded[key]
        return {key: _gradient(part) for key, part in loaded.items()}
    if isinstance(loaded, list | tuple):
        return {f"tensor{at}": part for at, part in enumerate(loaded, start=1)}
    return {"tensor1": loaded} if hasattr(loaded, "detach") else loaded


def _gradient(item: Any) -> Any:
    """Return the gradient of {"data": ..., "grad": ...}, and anything else as it is."""
    if not isinstance(item, Mapping):
        return item
    gradient = item.get("grad")
    if gradient is not None and not isinstance(gradient, Mapping):
        return gradient
    return {key: _gradient(part) for key, part in item.items()}


def _claims(arrays: Any, path: Path) -> Claims:
    if not isinstance(arrays, Mapping):
        raise FileFormatError(
            f"{path}: it holds a {type(arrays).__name__}. Expected is a dict of names with tensors."
        )
    try:
        claims = claims_of(arrays, path.name)
    except InputError as error:
        raise FileFormatError(f"{path}: {error}") from error
    run = {name: replace(claim, where=path.name) for name, claim in claims.runs[0].items()}
    return replace(claims, runs=(run,))
