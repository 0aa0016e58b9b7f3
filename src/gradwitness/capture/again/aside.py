"""The program's own code, run beside it: in float64, without a trace."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import Unjudgeable
from gradwitness.capture.again.keeping import Randomness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


def attempt(run: Callable[[], Any]) -> Any:
    """Run the program's code in float64.

    Raises
    ------
    Unjudgeable
        If it fails.
    """
    try:
        return run()
    except Exception as error:  # noqa: BLE001 (the program's own code may raise anything)
        said = str(error).strip().partition("\n")[0]
        raise Unjudgeable(
            f"it does not run in float64 ({type(error).__name__}: {said[:120]})"
        ) from None


def numbers_of(result: Any) -> NDArray[Any] | None:
    """Return a result's numbers; None if it is no tensor.

    Raises
    ------
    Unjudgeable
        If it is not in float64.
    """
    if not isinstance(result, torch.Tensor):
        return None
    if result.is_floating_point() and result.dtype is not torch.float64:
        name = str(result.dtype).removeprefix("torch.")
        raise Unjudgeable(f"it returns {name} for float64 inputs: no slope can be measured")
    array: NDArray[Any] = result.detach().cpu().numpy().copy()
    return array


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Leave no trace in the program: no recording, no graph, no random number used up.

    Raises
    ------
    Unjudgeable
        If random numbers were drawn: each run is then another function.
    """
    before = Randomness()
    try:
        with (
            torch._C._DisableTorchDispatch(),
            torch._C.DisableTorchFunction(),
            torch.no_grad(),
        ):
            yield
            if not before.is_current():
                raise Unjudgeable("it draws random numbers")
    finally:
        before.restore()
