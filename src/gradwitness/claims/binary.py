"""Claims in binary files and JSON. No file is trusted: none runs code or claims memory in vain."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError, MissingExtraError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.mappings import claims_of
from gradwitness.claims.text_numbers import CLASSES, Growing, parse, starts_and_ends

if TYPE_CHECKING:
    from pathlib import Path

# Zeros compress to a thousandth; a file that grows further is made to fill the memory.
_MOST_GROWTH = 1100
_MOST_ENTRIES = 1_000_000
_HEADER = 1 << 16


def read_npz(path: Path) -> Claims:
    """Read the arrays of an .npz.

    Raises
    ------
    FileFormatError
        If it is none, is damaged, or holds Python objects.
    """
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
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
    return _claims(arrays, path)


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    room = path.stat().st_size
    if declared > room * _MOST_GROWTH or len(entries) > _MOST_ENTRIES:
        raise FileFormatError(
            f"{path}: its {len(entries)} entries declare {declared} bytes in a file of {room}, "
            "more than compression saves. It is damaged, or made to fill the memory."
        )


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
    content = file.read(wanted)
    array = np.frombuffer(content, dtype) if wanted else np.empty(0, dtype)
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
        from gradwitness.capture.loading import load_tensors
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading what torch.save wrote needs torch: pip install 'gradwitness[torch]'. "
            "Or save the gradients as .npz."
        ) from None
    return _claims(_gradients(load_tensors(path)), path)


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


class _Number(str):
    """A number as JSON has it, with all its digits."""

    __slots__ = ()


def read_json(path: Path) -> Claims:
    """Read nested objects of nested lists of numbers; names are joined by dots.

    Raises
    ------
    FileFormatError
        If it is no JSON, or holds anything else.
    """
    try:
        data = json.loads(
            path.read_text(encoding="utf-8-sig"),
            parse_float=_Number,
            # Where floats are written short, 1 is 1.0.
            parse_int=lambda digits: _Number(f"{digits}."),
            parse_constant=_Number,
        )
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: it is no JSON ({error})") from error
    except RecursionError:
        raise FileFormatError(f"{path}: its brackets are nested too deeply") from None
    if not isinstance(data, dict):
        data = {"tensor1": data}
    runs = data.get("runs")
    parts = runs if isinstance(runs, list) and all(isinstance(r, dict) for r in runs) else [data]
    made = tuple(_json_run(part, path) for part in parts)
    if not any(made):
        raise FileFormatError(
            f"{path}: no numbers in it. Expected are names with lists of numbers."
        )
    return Claims(path.name, tuple(run for run in made if run))


def _json_run(data: dict[str, Any], path: Path) -> dict[str, Claim]:
    run: dict[str, Claim] = {}
    waiting: list[tuple[str, Any]] = list(data.items())[::-1]
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, dict):
            waiting += [(f"{name}.{key}", part) for key, part in reversed(item.items())]
        elif isinstance(item, _Number | list):
            if name in run:
                raise FileFormatError(f"{path}: two entries are called {name!r}")
            run[name] = _json_tensor(name, item, path)
    return run


def _json_tensor(name: str, item: _Number | list[Any], path: Path) -> Claim:
    shape: list[int] = []
    level: list[Any] = [item]
    while level and all(isinstance(part, list) for part in level):
        sizes = {len(part) for part in level}
        if len(sizes) > 1:
            raise FileFormatError(f"{path}: the rows of {name!r} are of several lengths")
        shape.append(sizes.pop())
        level = [entry for part in level for entry in part]
    if not all(isinstance(part, _Number) for part in level):
        found = next(part for part in level if not isinstance(part, _Number))
        raise FileFormatError(
            f"{path}: {name!r} holds {str(found)[:40]!r} where a number is expected"
        )
    if len(shape) > 32:
        raise FileFormatError(f"{path}: {name!r} has more than 32 levels of brackets")
    block = " ".join(level).encode()
    numbers = Growing()
    starts, ends = starts_and_ends(np.frombuffer(block.translate(CLASSES), np.uint8))
    numbers.append(*parse(block, starts, ends))
    values, rounding = numbers.take()
    if isinstance(rounding, np.ndarray):
        rounding = rounding.reshape(shape)
    return Claim(name, values.reshape(shape), rounding)


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
