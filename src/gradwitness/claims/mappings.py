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

MOST_LEVELS = 32
_MOST_NOTES = 5
# float64 holds integers exactly up to 2^53; larger ones are no gradients.
_INTEGERS = "iub"


def claims_of(source: Mapping[Any, Any], name: str) -> Claims:
    """Return the claims of a mapping, as one run; ``name`` stands for it in messages.

    Its entries are arrays, tensors, numbers or further mappings; None is no claim. Raises
    `InputError` if one is anything else, or there are no arrays.
    """
    run: dict[str, Claim] = {}
    notes: list[str] = []
    for key, value in _flat(source, (), name):
        if value is None:
            notes.append(f"{key} is None: no gradient is claimed")
            continue
        if key in run:
            raise InputError(f"{name}: two entries are named {key!r} when nested names are joined")
        array, note = as_array(value, f"{name}, {key}")
        if note:
            notes.append(f"{key}: {note}")
        run[key] = Claim(key, array, 0.0, array.dtype.name if not note else "")
    if not run:
        raise InputError(f"{name} holds no arrays; expected names with arrays or tensors")
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES:] = [f"and {len(notes) - _MOST_NOTES} more such notes"]
    return Claims(name, (run,), tuple(notes))


def _flat(tree: Mapping[Any, Any], path: tuple[str, ...], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested mappings with dotted names."""
    if len(path) > MOST_LEVELS:
        raise InputError(f"{name}: dicts nested more than {MOST_LEVELS} levels deep")
    for key, value in tree.items():
        path_here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from _flat(value, path_here, name)
        elif isinstance(value, list | tuple) and _holds_arrays(value, len(path)):
            yield from _flat(dict(enumerate(value)), path_here, name)
        else:
            yield ".".join(path_here), value


def _holds_arrays(values: list[Any] | tuple[Any, ...], level: int) -> bool:
    """Whether a list is a level of a tree, rather than the numbers of one tensor."""
    return level <= MOST_LEVELS and any(
        isinstance(value, Mapping)
        or getattr(value, "shape", ())
        or (isinstance(value, list | tuple) and _holds_arrays(value, level + 1))
        for value in values
    )


def as_array(value: Any, where: str) -> tuple[NDArray[Any], str]:
    """Return an array of a format that can be judged, and a note if it had to be converted.

    Tensors are recognised by their methods, so that arrays do not need torch. Raises `InputError`
    if it is not an array of real numbers.
    """
    if hasattr(value, "detach"):
        value = _from_tensor(value, where)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputError(
            f"{where}: a value of type {type(value).__name__} is not an array ({error})"
        ) from error
    name = array.dtype.name
    if is_float(name):
        # In native byte order.
        return array.astype(numpy_dtype(name), copy=False), ""
    if array.dtype.kind in _INTEGERS:
        return array.astype(np.float64), f"{name}, read as float64"
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.names is None:
        raise InputError(
            f"{where}: its numbers are raw bytes ({array.dtype.str}), as NumPy saves bfloat16. "
            "Save them as float32, or as .safetensors or .pt, which keep the dtype."
        )
    raise InputError(
        f"{where}: unsupported dtype {name}; use float16, bfloat16, float32 or float64"
    )


def _from_tensor(tensor: Any, where: str) -> Any:
    try:
        tensor = tensor.detach()
        if getattr(tensor, "is_sparse", False):
            tensor = tensor.to_dense()
        tensor = tensor.cpu() if hasattr(tensor, "cpu") else tensor
        if str(getattr(tensor, "dtype", "")) == "torch.bfloat16":
            # NumPy has no bfloat16; float32 holds its values exactly.
            return tensor.float().numpy().astype(numpy_dtype("bfloat16"))
        tensor = tensor.resolve_conj().resolve_neg() if hasattr(tensor, "resolve_neg") else tensor
        return tensor.numpy()
    except Exception as error:
        raise InputError(f"{where}: cannot convert the tensor to an array ({error})") from error
