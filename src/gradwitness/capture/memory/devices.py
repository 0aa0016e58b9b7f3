"""Tensors on a device, handed over where they live to a library that computes there: CuPy.

What it does not take, and all if it is not installed, is copied to the host (see `arrays`).
"""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._failure import kind_and_message
from gradwitness.capture.memory.arrays import as_array, bare, is_known
from gradwitness.engine import distant
from gradwitness.engine.distant import is_distant

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from gradwitness.tape import Value

# With older ones, a tensor in bfloat16 is refused, or ends the process.
_OLDEST = (14, 1)


class Library:
    """CuPy, as long as it works: with what it has failed at once, it is not tried again."""

    def __init__(self) -> None:
        self._module: Any = None
        self._failures: dict[str, str] = {}
        self._told = 0
        if importlib.util.find_spec("cupy") is None:
            return
        try:
            module = importlib.import_module("cupy")
            release = tuple(map(int, module.__version__.split(".")[:2]))
        except Exception as error:  # noqa: BLE001 (no driver, a broken build: the program goes on)
            self._failed("", error)
            return
        if release < _OLDEST:
            self._failures[""] = f"{module.__version__} is too old: 14.1 or later is needed"
        else:
            self._module = module

    def take(self, tensor: torch.Tensor) -> Any:
        """Return a tensor's numbers in its own memory; None where CuPy does not take them."""
        form = str(tensor.dtype)
        if self._module is None or form in self._failures:
            return None
        try:
            # CuPy names its stream to torch, which lets that wait for its own: here they are one.
            with self.on_stream(tensor.device):
                return self._module.from_dlpack(bare(tensor))
        except Exception as error:  # noqa: BLE001 (the numbers are copied to the host instead)
            self._failed(form, error)
            return None

    def on_stream(self, device: torch.device | None = None) -> AbstractContextManager[Any]:
        """Compute in torch's current stream, in turn with what the program does there."""
        if self._module is None:
            return nullcontext()
        stream = torch.cuda.current_stream(device)
        external: AbstractContextManager[Any] = self._module.cuda.ExternalStream(
            stream.cuda_stream, stream.device_index
        )
        return external

    def computing(self) -> AbstractContextManager[Any]:
        """Compute in the stream that is torch's now, or in CuPy's own if that fails."""
        try:
            return self.on_stream()
        except Exception as error:  # noqa: BLE001 (nothing more is handed over)
            self._failed("", error)
            self._module = None
            return nullcontext()

    def let_go(self) -> None:
        """Wait until what was handed over is computed, and give spare memory back to the device."""
        if self._module is None:
            return
        try:
            torch.cuda.synchronize()
            self._module.get_default_memory_pool().free_all_blocks()
        except Exception as error:  # noqa: BLE001 (an error of the program's own work, late)
            self._failed("", error)

    def news(self) -> dict[str, str]:
        """Return what CuPy has failed at, though it is installed: each failure once."""
        new = [*self._failures.items()][self._told :]
        self._told = len(self._failures)
        said = "; ".join(f"{what}: {why}" if what else why for what, why in new)
        return {"CuPy": said} if said else {}

    def _failed(self, what: str, error: Exception) -> None:
        self._failures[what] = kind_and_message(error)


# Where nothing was handed over.
_ANYWHERE = nullcontext()
# Looked for when the first tensor is met that it might take.
_found: list[Library] = []


def handed_over(tensor: torch.Tensor) -> NDArray[Any] | None:
    """Return a plain tensor's numbers: CuPy's where they live, if it takes them, else NumPy's."""
    # A tracer's fake tensor has its memory elsewhere.
    if tensor.is_cuda and is_known(tensor) and tensor.untyped_storage().device.type == "cuda":
        if not _found:
            _found.append(Library())
        there: NDArray[Any] | None = _found[0].take(tensor)
        if there is not None:
            return there
    return as_array(tensor)


def computing() -> AbstractContextManager[Any]:
    """Compute with what was handed over when it is there, and before it is overwritten."""
    return _found[0].computing() if _found else _ANYWHERE


def copied(array: Any) -> Any:
    """Return a copy of an array that is about to be overwritten, where it lives."""
    if not is_distant(array):
        copy = array.copy(order="K")
        copy.flags.writeable = False
        return copy
    with computing():
        return array.copy()


def checksum(array: Any) -> int:
    """Return a number by which an array is known again, see `engine.distant`."""
    with computing():
        return distant.checksum(array)


def fingerprint(value: Value) -> int:
    """Return a checksum of a value; 0 if its numbers are scattered, and would have to be copied."""
    array = distant.where_it_lives(value).array
    return checksum(array) if array is not None and array.flags.c_contiguous else 0


def let_go() -> dict[str, str]:
    """Be done with a block; return what there is to say about the library, see `Tape.about`."""
    for library in _found:
        library.let_go()
    return {key: said for library in _found for key, said in library.news().items()}
