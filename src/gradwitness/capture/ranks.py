"""What goes on between processes: what was sent, and where the numbers went that arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import distributed

from gradwitness.capture.calls.source import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from gradwitness.capture.memory.values import ValueStore

_WAIT = "_c10d_functional.wait_tensor.default"


def sent() -> int:
    """Return in how many collectives this process has taken part, whoever issued them.

    Groups of one process have nobody to talk to.
    """
    if not _is_spread():
        return 0
    return sum(map(_sent_in, distributed.distributed_c10d._world.pg_map))


def _is_spread() -> bool:
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def _sent_in(group: Any) -> int:
    try:
        return int(group._get_sequence_number_for_group()) if group.size() > 1 else 0
    except RuntimeError:
        # A backend that does not count.
        return 0


def filled(operation: str, arguments: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
    """Return by argument what an operation of ``c10d`` fills: their schemas do not say so."""
    if not operation.startswith("c10d.") or operation.startswith("c10d.send"):
        return {}
    return {
        name: list(tensors_in(argument))
        for name, argument in arguments.items()
        if name.startswith("output") or name == "tensors"
    }


class Wrappers:
    """Knows what spreads a model over processes.

    Attributes
    ----------
    names : dict
        Its keys name the wrappers.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._replicas: list[Any] = []

    def add(self, root: torch.nn.Module) -> None:
        """Look for wrappers in a model."""
        if not _is_spread():
            return
        for module in root.modules():
            for kind in type(module).__mro__:
                if kind.__name__ in _WRAPPERS and kind.__module__.startswith("torch.distributed."):
                    self.names[kind.__name__] = None
            if type(module).__name__ == "DistributedDataParallel":
                self.names[type(module).__name__] = None
                self._replicas.append(module)
        if any(hasattr(p, "_local_tensor") for p in root.parameters()):
            self.names["DTensor"] = None

    def reduce(self, leaves: Iterable[torch.Tensor]) -> bool:
        """Whether some replicated model reduces the gradients of one of these leaves.

        Its hook may reduce them without any collective, or leave them as they are.
        """
        reduced = {
            id(parameter)
            for replica in self._replicas
            if replica.process_group.size() > 1
            and (replica.require_backward_grad_sync or replica.require_forward_param_sync)
            for parameter in replica.parameters()
        }
        return not reduced.isdisjoint(map(id, leaves))


_WRAPPERS = ("FullyShardedDataParallel", "FSDPModule")


class Arrivals:
    """Follows what other processes sent, outside of autograd, through the memory of a program."""

    def __init__(self, values: ValueStore) -> None:
        self._values = values
        self._storages: set[int] = set()

    def hold(self, storages: set[int]) -> bool:
        """Whether something that arrived lies in one of these."""
        return not self._storages.isdisjoint(storages)

    def follow(self, sources: set[int], results: set[int], *, tracked: bool) -> bool:
        """Follow an operation; return whether something that arrived went into it."""
        arrived = not self._storages.isdisjoint(sources)
        if arrived and not tracked:
            self._storages |= results
        return arrived

    def collective(
        self,
        operation: str,
        arguments: dict[str, Any],
        tensors: list[Any],
        storages: set[int],
        result: Any,
    ) -> None:
        """Note what a collective that has begun will fill, and when that may be read."""
        if not _is_alone(arguments):
            self._storages |= storages
        work = _work(result)
        is_done: Callable[[], bool] = work.is_completed if work is not None else _never
        for tensor in tensors:
            if operation == _WAIT:
                self._values.arrived(tensor)
            else:
                self._values.in_flight(tensor, is_done)


def _never() -> bool:
    """Return whether a functional collective is done: only after its wait."""
    return False


def _work(result: Any) -> Any:
    last = result[-1] if isinstance(result, tuple) else result
    try:
        return distributed.Work.unbox(last)
    except (AttributeError, RuntimeError, TypeError):
        return None


def _is_alone(arguments: dict[str, Any]) -> bool:
    """Whether a collective's group has one process."""
    for name, argument in arguments.items():
        try:
            if name == "process_group":
                return bool(distributed.ProcessGroup.unbox(argument).size() == 1)
            if name == "group_name":
                c10d: Any = distributed.distributed_c10d
                return bool(c10d._resolve_process_group(argument).size() == 1)
        except (AttributeError, RuntimeError, TypeError):
            return False
    return False
