"""Claims in binary files. No file is trusted: none runs code or makes us allocate in vain."""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError, MissingExtraError
from gradwitness._printable import listed, several
from gradwitness.claims.mappings import MOST_LEVELS, claims_of
from gradwitness.engine.floats import numpy_dtype
from gradwitness.files.mapping import LEAST, MappedFile, forget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claims

# Sparse gradients compress to some hundredths. What grows further, to more than the bytes that are
# always allowed, was made to exhaust memory (zeros grow a thousandfold).
_MOST_GROWTH = 100
_ALWAYS_ALLOWED = 1 << 28
_MOST_ENTRIES = 1_000_000
_PIECE = 1 << 18
# Of an entry of a zip file: the bytes of its own header before the lengths of name and extra field.
_LENGTHS = 26
_ENCRYPTED = 1
_BYTE = np.dtype(np.uint8)
_CHECKED = 1 << 24
_NARROW = "F8_", "F6_"
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_npz(path: Path) -> Claims:
    """Read the arrays of an .npz file as `read_arrays` does, but leave large ones unverified."""
    arrays, unverified = _read_unverified(path)
    claims = replace(claims_in(arrays, path), unverified=unverified)
    with zipfile.ZipFile(path) as archive:
        others = [name for name in archive.namelist() if not name.endswith(".npy")]
    if not others:
        return claims
    note = f"{path.name}: only entries in .npy were read, not {listed(map(repr, others), 3)}"
    return replace(claims, notes=(*claims.notes, note))


def read_arrays(path: Path, most: int | None = None) -> dict[str, Any]:
    """Read the arrays of an .npz file as they are, ``most`` bytes in all at most.

    Raises `FileFormatError` if it is another kind of file, damaged, too large, or holds objects.
    """
    arrays, unverified = _read_unverified(path, most)
    for verify in unverified:
        verify()
    return arrays


def _read_unverified(
    path: Path, most: int | None = None
) -> tuple[dict[str, Any], tuple[Callable[[], None], ...]]:
    """Return the arrays of an .npz file, and functions that refuse damaged ones among the mapped.

    What is not mapped is verified as it is read.
    """
    arrays: dict[str, Any] = {}
    unverified: list[Callable[[], None]] = []
    try:
        with zipfile.ZipFile(path) as archive:
            check_sizes(archive, path, most)
            mapped = MappedFile(path)
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    begin = _begin_of(archive, entry)
                    with archive.open(entry) as file:
                        array = _read_npy(file, entry.file_size, mapped, begin)
                    if begin is not None:
                        content = mapped.array(_BYTE, (entry.file_size,), begin)
                        unverified.append(partial(_verify, path, entry, content))
                    arrays[entry.filename.removesuffix(".npy")] = array
    except FileFormatError:
        raise
    except Exception as error:
        # A damaged zip file or .npy header fails in many ways.
        raise FileFormatError(
            f"{path}: not a .npz file of plain arrays ({error}). Write it with numpy.savez."
        ) from error
    return arrays, tuple(unverified)


def check_sizes(archive: zipfile.ZipFile, path: Path, most: int | None) -> None:
    """Refuse an archive that would grow to more than arrays do, or has two entries of one name."""
    entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    if declared > most_grown(path) or len(entries) > _MOST_ENTRIES:
        raise FileFormatError(
            f"{path}: its {several(len(entries), 'entry declares', 'entries declare')} {declared} "
            "bytes, but the file has only "
            f"{path.stat().st_size}. It is damaged, or made to exhaust memory; if it is right, "
            "write it again without compression, by numpy.savez."
        )
    seen: set[str] = set()
    for entry in entries:
        if entry.filename in seen:
            raise _repeated(path, entry.filename.removesuffix(".npy"))
        seen.add(entry.filename)
    if most is not None and declared > most:
        raise FileFormatError(f"{path}: holds {declared} bytes, but at most {most} are allowed")


def check_growth(size: int, path: Path) -> None:
    """Refuse a file that grows to more bytes than gradients do."""
    if size > most_grown(path):
        raise FileFormatError(
            f"{path}: unpacks to {size} bytes or more, but has only {path.stat().st_size}. It is "
            "damaged, or made to exhaust memory; if it is right, write it again without "
            "compression."
        )


def most_grown(path: Path) -> int:
    """Return how many bytes may be made of a file."""
    return max(_MOST_GROWTH * path.stat().st_size, _ALWAYS_ALLOWED)


def _begin_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int | None:
    """Return where the bytes of a large entry lie in the file; None if they are compressed."""
    is_plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & _ENCRYPTED
    if not is_plain or entry.file_size < LEAST or archive.fp is None:
        return None
    archive.fp.seek(entry.header_offset + _LENGTHS)
    name, extra = struct.unpack("<HH", archive.fp.read(4))
    return entry.header_offset + _LENGTHS + 4 + int(name) + int(extra)


def _verify(path: Path, entry: zipfile.ZipInfo, content: NDArray[np.uint8]) -> None:
    """Raise `FileFormatError` if a mapped entry is not what was written."""
    checksum = 0
    for at in range(0, content.size, _CHECKED):
        checksum = zlib.crc32(content[at : at + _CHECKED].data, checksum)
        forget(content)
    if checksum != entry.CRC:
        raise FileFormatError(
            f"{path}: {entry.filename!r} is not what was written: its bytes have another CRC-32. "
            "Copy the file again, or write it again with numpy.savez."
        )


def _read_npy(file: Any, size: int, mapped: MappedFile, begin: int | None) -> Any:
    """Read one array, after checking its header against the number of bytes.

    A large one that begins at ``begin`` in a file is mapped.
    """
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of .npy")
    try:
        shape, is_fortran, dtype = read_header(file)
    except Exception as error:
        # Its text can fail in many ways, and of one too long NumPy advises to trust it.
        raise ValueError("the header of one cannot be read") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which can run code when loaded")
    needed = math.prod(shape) * dtype.itemsize
    if any(type(length) is not int or length < 0 for length in shape) or needed > size:
        raise ValueError(f"it declares an array of shape {shape}, but has only {size} bytes")
    if begin is not None and needed >= LEAST:
        return mapped.array(dtype, shape, begin + file.tell(), is_fortran=is_fortran)
    array = np.empty(needed // max(dtype.itemsize, 1), dtype)
    # Read in place, piece by piece: there is never a second copy.
    space = array.view(np.uint8).data if needed else memoryview(bytearray())
    done = 0
    while done < needed:
        count = file.readinto(space[done : done + _PIECE])
        if not count:
            raise ValueError(f"an array of {needed} bytes ends after {done}")
        done += count
    return array.reshape(shape, order="F" if is_fortran else "C")


def read_npy(path: Path) -> Claims:
    """Read the one array of an .npy file, which is named as the file is."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            array = _read_npy(file, size, MappedFile(path), 0)
            # A mapped array was not read: the file is at its begin.
            left = size - file.tell() - (array.nbytes if array.nbytes >= LEAST else 0)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise FileFormatError(
            f"{path}: not an .npy file of a plain array ({error}). Write it with numpy.save, or "
            "several with numpy.savez."
        ) from error
    claims = claims_in({path.stem: array}, path)
    if left:
        what = "byte", "bytes"
        note = f"{path.name}: {several(left, *what)} after its first array were not read"
        claims = replace(claims, notes=(*claims.notes, note))
    return claims


def read_safetensors(path: Path) -> Claims:
    """Read the tensors of a .safetensors file, which takes the package safetensors."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading .safetensors files requires safetensors: "
            "pip install 'gradwitness[safetensors]'"
        ) from None
    # NumPy knows bfloat16 by name once ml_dtypes is imported, which engine.floats does.
    try:
        with safe_open(path, framework="np") as file:
            placed = _mapped_tensors(path)
            arrays = {
                name: placed[name] if name in placed else file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
            }
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise FileFormatError(f"{path}: not a readable .safetensors file ({error})") from error
    return claims_in(arrays, path)


def _mapped_tensors(path: Path) -> dict[str, Any]:
    """Return the large tensors of a .safetensors file whose header is known to be right.

    Refuses a file that names two tensors alike: safetensors takes the last.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for name, content in pairs:
            if name in known:
                raise _repeated(path, name)
            known[name] = content
        return known

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length), object_pairs_hook=distinct)
    mapped = MappedFile(path)
    tensors = {}
    for name, tensor in header.items():
        if str(tensor.get("dtype")).startswith(_NARROW):
            raise FileFormatError(
                f"{path}: {name[:80]!r} is of {tensor['dtype']}, in which no gradients are judged; "
                "save it as float16 or wider"
            )
        dtype = _SAFETENSORS.get(tensor.get("dtype"))
        begin, end = tensor.get("data_offsets", (0, 0))
        if dtype and end - begin >= LEAST:
            shape = tuple(tensor["shape"])
            tensors[name] = mapped.array(numpy_dtype(dtype), shape, 8 + length + begin)
    return tensors


def _repeated(path: Path, name: str) -> FileFormatError:
    return FileFormatError(
        f"{path}: holds two arrays named {name[:80]!r}, and which one is meant cannot be told. "
        "Write it again with a name for each."
    )


def read_pt(path: Path) -> Claims:
    """Read tensors saved by ``torch.save``, also in nested dicts, without running code.

    It takes torch, and refuses files with anything but tensors, numbers and containers.
    """
    try:
        from gradwitness.claims.torch_files import load_tensors
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading torch.save files requires torch: pip install 'gradwitness[torch]'. "
            "Or save the gradients as .npz."
        ) from None
    loaded = load_tensors(path)
    _check_tensors(loaded, path)
    return claims_in(_gradients(loaded), path)


def _check_tensors(loaded: Any, path: Path, level: int = 0) -> None:
    """Refuse huge tensors stored in a few bytes, and what holds itself."""
    if level > MOST_LEVELS:
        raise FileFormatError(
            f"{path}: dicts nested more than {MOST_LEVELS} levels deep, or one that holds itself"
        )
    parts: Any = ()
    if isinstance(loaded, Mapping):
        parts = loaded.values()
    elif isinstance(loaded, list | tuple):
        parts = loaded
    for part in parts:
        _check_tensors(part, path, level + 1)
    if not hasattr(loaded, "element_size") or getattr(loaded, "is_nested", False):
        return
    if loaded.numel() * loaded.element_size() > most_grown(path):
        raise FileFormatError(
            f"{path}: holds a tensor of shape {tuple(loaded.shape)} in only {path.stat().st_size} "
            "bytes. It is expanded or sparse, and too large in full."
        )


def _gradients(loaded: Any) -> Any:
    """Return the entry named like gradients, if there is one, else everything."""
    if isinstance(loaded, Mapping):
        for key in ("grad", "grads", "gradients"):
            if isinstance(loaded.get(key), Mapping):
                return loaded[key]
        return {key: _gradient(tensor) for key, tensor in loaded.items()}
    if isinstance(loaded, list | tuple):
        return {f"tensor{nr}": tensor for nr, tensor in enumerate(loaded, start=1)}
    return {"tensor1": loaded} if hasattr(loaded, "detach") else loaded


def _gradient(entry: Any) -> Any:
    """Return the gradient of {"data": ..., "grad": ...}; anything else as it is."""
    if not isinstance(entry, Mapping):
        return entry
    gradient = entry.get("grad")
    if gradient is not None and not isinstance(gradient, Mapping):
        return gradient
    return {key: _gradient(part) for key, part in entry.items()}


def claims_in(arrays: Any, path: Path) -> Claims:
    """Return the claims of what a file held: names with arrays, or a tree of them."""
    if not isinstance(arrays, Mapping):
        raise FileFormatError(
            f"{path}: holds a value of type {type(arrays).__name__}; expected a dict of names to "
            "tensors"
        )
    try:
        claims = claims_of(arrays, path.name)
    except InputError as error:
        raise FileFormatError(f"{path}: {error}") from error
    run = {name: replace(claim, where=path.name) for name, claim in claims.runs[0].items()}
    return replace(claims, runs=(run,))
