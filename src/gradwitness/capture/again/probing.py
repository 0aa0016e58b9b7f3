"""Further backward passes after a program's own, with cotangents of every kind.

Where the program runs backward, its own pass runs first, untouched. Then the same graph runs again,
once for each kind of probe, and a hook before every node replaces the gradient that arrives there:
one pass tries each node with a cotangent of that kind. The passes use ``torch.autograd.grad``, so
no ``.grad`` is written; each starts with the random state before the program's own pass, and at the
end that pass's state is restored.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch.overrides import TorchFunctionMode

from gradwitness.capture.again.keeping import Keeper, Randomness
from gradwitness.capture.calls.source import is_custom_backward, tensors_in
from gradwitness.capture.observer import Observer
from gradwitness.capture.passes.entries import ENTRIES, edge_of
from gradwitness.capture.recorder import Recorder
from gradwitness.judging.probe_results import AGAIN, CORNERS, OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from gradwitness._room import Room
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.tape import Tape


class Splitting(Observer, Protocol):
    """An observer that is told the kind of each pass."""

    def watches(
        self, tape: Tape, functions: Functions, label: Callable[[], tuple[str, int]]
    ) -> None:
        """Begin to judge a growing tape; ``label`` returns what runs now: `Prober.label`."""


@dataclass(frozen=True)
class Trial:
    """One run of a program with probes.

    Attributes
    ----------
    tape : Tape
        The program's passes, and those of the probes.
    errors : dict of str to str
        Kinds for which a pass failed, and how.
    skipped : tuple of str
        Why a pass of the program got no probes.
    met : list of Tensor
        Parameters, buffers and leaves that the program uses.
    """

    tape: Tape
    errors: dict[str, str]
    skipped: tuple[str, ...]
    met: list[torch.Tensor]


def trial(
    step: Callable[[], Any],
    models: Sequence[torch.nn.Module],
    kinds: Sequence[str],
    observer: Splitting,
    *,
    tensors: Sequence[torch.Tensor] = (),
    moving: bool = False,
    everywhere: bool = False,
    names: Mapping[str, torch.Tensor] | None,
    seed: int,
    saved: bool,
    room: Room | None,
    rerun: bool | Collection[Any] = (),
) -> Trial:
    """Run a program once, with probes beside its backward passes, and put its state back.

    Parameters
    ----------
    step : callable
        If it runs no backward itself, the tensors that it returns are run backward.
    models, names, saved, room, rerun
        As for `Recorder`.
    tensors : sequence of Tensor
        Known from an earlier run.
    moving : bool
        Perturb the parameters.
    everywhere : bool
        Send every kind to torch's own nodes too.
    """
    generator = torch.Generator().manual_seed(seed) if moving else None
    prober = Prober(kinds, seed, everywhere=everywhere)
    recorder = Recorder(*models, names=names, saved=saved, room=room, rerun=rerun)
    keeper = Keeper(models, tensors, generator, recorder.before_write)
    observer.watches(recorder.growing(), recorder.functions(), lambda: prober.label)
    try:
        # Before the recorder meets them and records their numbers.
        keeper.meet_given()
        recorder.start(observer)
        try:
            with keeper, prober:
                _run_back(step(), prober)
        finally:
            recorder.stop()
    finally:
        keeper.restore()
    skipped = tuple(prober.skipped)
    return Trial(recorder.tape, prober.errors, skipped, keeper.met)


def _run_back(outputs: Any, prober: Prober) -> None:
    """Run backward from the results of a step, unless it did so itself."""
    if prober.ran:
        return
    results = outputs.values() if isinstance(outputs, dict) else [outputs]
    roots = [tensor for tensor in tensors_in(list(results)) if tensor.requires_grad]
    if roots:
        ones = [torch.ones_like(root) for root in roots]
        torch.autograd.backward(roots, ones)


class Prober(TorchFunctionMode):
    """Sends further backward passes after each one of the program.

    Must be entered after the recorder, so that it meets ``backward`` first.

    Parameters
    ----------
    kinds : sequence of str
        Names of `COTANGENTS`, or ``again`` for the program's own pass once more.
    everywhere : bool
        Send the kinds `CORNERS` to torch's own nodes too.

    Attributes
    ----------
    label : tuple of (str, int)
        What runs now, ``own`` or a kind, and for which of the program's passes. A pass that a
        custom function starts in its backward is part of the running one.
    ran : list of str
        The kinds that have begun, in order.
    errors : dict of str to str
        Kinds for which a pass failed, and how.
    skipped : list of str
        Why a pass of the program got no probes.
    """

    def __init__(self, kinds: Sequence[str], seed: int, *, everywhere: bool) -> None:
        super().__init__()
        self._kinds = kinds
        self._everywhere = everywhere
        self._seed = seed
        self.label = (OWN, 0)
        self.ran: list[str] = []
        self.errors: dict[str, str] = {}
        self.skipped: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        entry = ENTRIES.get(func)
        if entry is None:
            return func(*args, **kwargs)
        request = entry(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs)
        asked = bound.arguments
        self._begin(OWN)
        if asked.get("create_graph") or asked.get("is_grads_batched"):
            self.skipped.append("it is differentiated again, or for many cotangents at once")
            return func(*args, **kwargs)
        with _Guard():
            nodes = reached(root for root in request.roots if root.requires_grad)
        leaves = [node.variable for node in nodes if node.name().endswith("AccumulateGrad")]
        sources = request.inputs or leaves
        foreign = [node for node in nodes if self._everywhere or is_foreign(node)]
        kinds = [kind for kind in self._kinds if foreign or kind not in CORNERS]
        if not sources or not kinds:
            return func(*args, **kwargs)
        asked["retain_graph"] = True
        before = Randomness()
        result = func(*bound.args, **bound.kwargs)
        after = Randomness()
        with _Guard():
            # Torch would create these itself, and that would be recorded.
            seeds = [
                torch.ones_like(root) if seed is None else seed
                for root, seed in zip(request.roots, request.seeds, strict=True)
            ]
        try:
            for index, kind in enumerate(kinds):
                before.restore()
                last = index == len(kinds) - 1

                def run(*, keep: bool = request.retains or not last) -> None:
                    torch.autograd.grad(
                        request.roots, sources, seeds, retain_graph=keep, allow_unused=True
                    )

                self._begin(kind)
                self._send(kind, run, foreign if kind in CORNERS else nodes)
        finally:
            after.restore()
        return result

    def _begin(self, kind: str) -> None:
        self.ran.append(kind)
        self.label = (kind, self.ran.count(OWN) - 1)

    def _send(self, kind: str, run: Callable[[], None], nodes: Iterable[Any]) -> None:
        handles: list[Any] = []
        # Each pass draws the same numbers, whichever other kinds are asked for.
        generator = torch.Generator().manual_seed(self._seed)
        try:
            if kind != AGAIN:
                make = COTANGENTS[kind]
                handles += [
                    node.register_prehook(_replacing(make, generator))
                    for node in nodes
                    if not node.name().endswith("AccumulateGrad")
                ]
            run()
        except Exception as error:  # noqa: BLE001 (the program's own backward may raise anything)
            text = str(error).strip().partition("\n")[0]
            self.errors.setdefault(kind, f"{type(error).__name__}: {text}")
        finally:
            for handle in handles:
                handle.remove()


def _replacing(make: Any, generator: torch.Generator) -> Callable[[Any], Any]:
    def hook(arrived: Any) -> Any:
        with _Guard():
            return tuple(
                make(g, generator) if isinstance(g, torch.Tensor) and _is_plain(g) else g
                for g in arrived
            )

    return hook


def _is_plain(gradient: torch.Tensor) -> bool:
    numbers = gradient.is_floating_point() or gradient.is_complex()
    return numbers and gradient.layout is torch.strided


def _normal(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    dtype = torch.complex128 if like.is_complex() else torch.float64
    numbers = torch.randn(tuple(shape), generator=generator, dtype=dtype)
    return numbers.to(like.device, like.dtype)


def _random(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _normal(like.shape, like, generator)


def _strided(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return numbers in memory in the opposite order of dimensions, with gaps."""
    order = tuple(reversed(range(like.dim())))
    gapped = _normal([*(like.shape[d] for d in order), 2], like, generator)[..., 1]
    return gapped.permute(order)


def _expanded(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return numbers that repeat along the first dimension longer than 1: stride 0 there."""
    long = [d for d, size in enumerate(like.shape) if size > 1]
    shape = list(like.shape)
    if long:
        shape[long[0]] = 1
    return _normal(shape, like, generator).expand(like.shape)


def _zero(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    del generator
    return torch.zeros(like.shape, dtype=like.dtype, device=like.device)


def _one_hot(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return zeros with one other number at a random index."""
    numbers = _zero(like, generator)
    if numbers.numel():
        index = torch.randint(numbers.numel(), (), generator=generator)
        numbers.view(-1)[index] = _normal((), like, generator)
    return numbers


def _scaled(sign: int) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """Return random numbers times about the square root of the format's maximum, or over it."""

    def make(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        exponent = sign * (int(math.log2(torch.finfo(like.dtype).max)) // 2 - 4)
        return _normal(like.shape, like, generator) * 2.0**exponent

    return make


COTANGENTS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "random": _random,
    "strided": _strided,
    "expanded": _expanded,
    "zero": _zero,
    "one-hot": _one_hot,
    "large": _scaled(1),
    "small": _scaled(-1),
}


def is_foreign(node: Any) -> bool:
    """Whether a node is a user's, in Python or C++, not one of torch's own."""
    custom = is_custom_backward(node)
    return custom or "CppNode" in node.name()


def reached(roots: Iterable[torch.Tensor]) -> list[Any]:
    """Return every autograd node that the roots reach."""
    waiting = [edge.node for edge in map(edge_of, roots) if edge is not None]
    seen: dict[Any, None] = {}
    for node in waiting:
        if node not in seen:
            seen[node] = None
            waiting.extend(target for target, _ in node.next_functions if target is not None)
    return list(seen)


class _Guard(contextlib.ExitStack):
    """Keeps the probes' own operations off the tape."""

    def __enter__(self) -> Self:
        self.enter_context(torch._C._DisableTorchDispatch())
        self.enter_context(torch._C.DisableTorchFunction())
        return self
