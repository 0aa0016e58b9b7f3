"""Claims from mappings of names to arrays or tensors, nested or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import InputError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.engine.floats import is_float, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MOST_LEVELS = 32
_MOST_NOTES = 5
# float64 holds these exactly, up to 2^53; whoever has larger ones has no gradients.
_WHOLE = "iub"


def claims_of(source: Mapping[Any, Any], name: str) -> Claims:
    """Return what a mapping claims, as one run.

    Parameters
    ----------
    source : mapping
        Of names to arrays, tensors, numbers or further mappings. None claims nothing.
    name : str
        What messages call it.

    Raises
    ------
    InputError
        If an entry is none of these, or there is none.
    """
    run: dict[str, Claim] = {}
    notes: list[str] = []
    for key, item in _flat(source, (), name):
        if item is None:
            notes.append(f"{key} is None: no gradient is claimed")
            continue
        if key in run:
            raise InputError(f"{name}: two entries are called {key!r} once nested names are joined")
        array, note = as_array(item, f"{name}, {key}")
        if note:
            notes.append(f"{key}: {note}")
        run[key] = Claim(key, array, 0.0, array.dtype.name if not note else "")
    if not run:
        raise InputError(f"{name} holds no arrays. Expected are names with arrays or tensors.")
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES:] = [f"and so on, {len(notes) - _MOST_NOTES} more"]
    return Claims(name, (run,), tuple(notes))


def _flat(item: Mapping[Any, Any], path: tuple[str, ...], name: str) -> Iterator[tuple[str, Any]]:
    """Give the entries of nested mappings by dotted names."""
    if len(path) > _MOST_LEVELS:
        raise InputError(f"{name}: dicts in more than {_MOST_LEVELS} levels")
    for key, part in item.items():
        here = (*path, str(key))
        if isinstance(part, Mapping):
            yield from _flat(part, here, name)
        elif isinstance(part, list | tuple) and _holds_arrays(part, len(path)):
            yield from _flat(dict(enumerate(part)), here, name)
        else:
            yield ".".join(here), part


def _holds_arrays(part: list[Any] | tuple[Any, ...], level: int) -> bool:
    """Whether a list is a layer of a tree, and not the numbers of one tensor."""
    return level <= _MOST_LEVELS and any(
        isinstance(item, Mapping)
        or getattr(item, "shape", ())
        or (isinstance(item, list | tuple) and _holds_arrays(item, level + 1))
        for item in part
    )


def as_array(item: Any, where: str) -> tuple[NDArray[Any], str]:
    """Return an array of one of the formats that are judged, and a note if it was another.

    Tensors are known by what they can do, so that torch is not imported for arrays.

    Raises
    ------
    InputError
        If it is no array of real numbers.
    """
    if hasattr(item, "detach"):
        item = _from_tensor(item, where)
    try:
        array = np.asarray(item)
    except Exception as error:
        raise InputError(f"{where}: a {type(item).__name__} is no array ({error})") from error
    name = array.dtype.name
    if is_float(name):
        # In the machine's byte order.
        return array.astype(numpy_dtype(name), copy=False), ""
    if array.dtype.kind in _WHOLE:
        return array.astype(np.float64), f"{name}, read as float64"
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.names is None:
        raise InputError(
            f"{where}: its numbers are bare bytes ({array.dtype.str}), as NumPy saves bfloat16. "
            "Save them as float32, or as .safetensors or .pt, which keep the format."
        )
    raise InputError(
        f"{where}: {name} is no format of gradients that is judged. "
        "Use float16, bfloat16, float32 or float64."
    )


def _from_tensor(tensor: Any, where: str) -> Any:
    try:
        tensor = tensor.detach()
        if getattr(tensor, "is_sparse", False):
            tensor = tensor.to_dense()
        tensor = tensor.cpu() if hasattr(tensor, "cpu") else tensor
        if str(getattr(tensor, "dtype", "")) == "torch.bfloat16":
            # NumPy has no bfloat16 of its own; float32 holds each exactly.
            return tensor.float().numpy().astype(numpy_dtype("bfloat16"))
        tensor = tensor.resolve_conj().resolve_neg() if hasattr(tensor, "resolve_neg") else tensor
        return tensor.numpy()
    except Exception as error:
        raise InputError(f"{where}: the tensor cannot be read as an array ({error})") from error
