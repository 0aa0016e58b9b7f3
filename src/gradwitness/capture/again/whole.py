"""A training step, run again up to its backward pass, in float64 and with leaves that move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from gradwitness._errors import Unjudgeable
from gradwitness.capture.again.aside import attempt, numbers_of
from gradwitness.capture.again.keeping import Keeper
from gradwitness.capture.again.probing import reached
from gradwitness.capture.passes.entries import ENTRIES
from gradwitness.judging.custom.slopes import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.capture.passes.entries import Request
    from gradwitness.tape import Tape


class Whole:
    """A step of a program, from its leaves to the roots of its first backward pass.

    Every run starts from the same state, random numbers included, and puts it back.

    Parameters
    ----------
    step : callable
    """

    def __init__(self, step: Callable[[], Any]) -> None:
        self._step = step
        self._leaves: list[torch.Tensor] = []

    def claims(self, tape: Tape) -> dict[str, Claim]:
        """Return a claim of zeros for each leaf of a recording that the step is found to have.

        Raises
        ------
        Unjudgeable
            If the step runs nothing backward.
        """
        request = self._request(wide=False)
        nodes = reached(root for root in request.roots if root.requires_grad)
        self._leaves = [n.variable for n in nodes if n.name().endswith("AccumulateGrad")]
        incoming = [
            np.ones(tuple(root.shape)) if seed is None else np.asarray(seed.detach().double().cpu())
            for root, seed in zip(request.roots, request.seeds, strict=True)
        ]
        claims = {}
        for _, value in tape.leaves():
            same = [k for k, leaf in enumerate(self._leaves) if _is_same(leaf, value.array)]
            if len(same) == 1 and value.array is not None:
                at = value.array.astype(np.float64)
                empty = np.zeros(at.shape)
                name = value.name or f"value {value.id}"
                claims[name] = Claim(0, same[0], at, empty, value.dtype, incoming, ())
        return claims

    def run(self, moved: Mapping[int, NDArray[np.float64]]) -> Sequence[Any]:
        """Run it in float64, some leaves replaced; return the roots.

        Raises
        ------
        Unjudgeable
            If that fails.
        """
        return [numbers_of(root) for root in self._request(moved, wide=True).roots]

    def _request(
        self, moved: Mapping[int, NDArray[np.float64]] | None = None, *, wide: bool
    ) -> Request:
        """Run it up to where it asks for gradients."""
        keeper = Keeper(tensors=self._leaves)
        keeper.meet_given()
        try:
            for index, leaf in enumerate(self._leaves if wide else ()):
                array = (moved or {}).get(index)
                numbers = leaf.data if array is None else torch.from_numpy(np.array(array))
                leaf.data = numbers.to(leaf.device, torch.float64)
                leaf.grad = None
            with keeper, _UpToBackward(wide=wide):
                attempt(self._step)
        except _Reached as reached_:
            return reached_.request
        finally:
            keeper.restore()
        raise Unjudgeable("it runs nothing backward")


class _Reached(BaseException):
    """The step asks for gradients: no error, and for no handler of the program."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


class _UpToBackward(TorchFunctionMode):
    """Ends a step where it asks for gradients; before, takes all numbers in float64."""

    def __init__(self, *, wide: bool) -> None:
        super().__init__()
        self._wide = wide

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in ENTRIES:
            raise _Reached(ENTRIES[func](*args, **kwargs))
        name = getattr(func, "__name__", "")
        if self._wide and not name.endswith("_"):
            args, kwargs = _widened(args), _widened(kwargs)
        return func(*args, **kwargs)


def _widened(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor):
        narrow = argument.is_floating_point() and argument.dtype is not torch.float64
        return argument.double() if narrow else argument
    if type(argument) in (tuple, list):
        return type(argument)(map(_widened, argument))
    if type(argument) is dict:
        return {key: _widened(one) for key, one in argument.items()}
    return argument


def _is_same(leaf: torch.Tensor, array: NDArray[Any] | None) -> bool:
    """Whether a leaf has the numbers of a recorded one."""
    if array is None or tuple(leaf.shape) != array.shape or not leaf.is_floating_point():
        return False
    return np.array_equal(leaf.detach().double().cpu().numpy(), array.astype(np.float64))
