"""The context manager around ordinary training code."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import torch

from gradwitness._errors import CaptureError
from gradwitness._process_wide import FULL_COLLECTIONS
from gradwitness.capture.border import Border
from gradwitness.capture.calls.compiled import Compiled
from gradwitness.capture.calls.dispatch import DispatchRecorder
from gradwitness.capture.calls.fast_paths import FastPaths
from gradwitness.capture.calls.operators import require_fitting_rules
from gradwitness.capture.calls.source import ModuleTrail, raised_at
from gradwitness.capture.memory.devices import let_go
from gradwitness.capture.memory.retention import Retention
from gradwitness.capture.memory.values import ValueStore
from gradwitness.capture.observer import Audience
from gradwitness.capture.passes.closing import closed
from gradwitness.capture.passes.engine_modes import is_on
from gradwitness.capture.passes.gradients import BackwardRecorder
from gradwitness.capture.passes.graph import GraphRecorder
from gradwitness.capture.passes.outside import Outside
from gradwitness.capture.passes.unused import unused_results
from gradwitness.tape import Ending, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sized
    from contextlib import AbstractContextManager

    from gradwitness._room import Room
    from gradwitness.capture.calls.applications import Applications
    from gradwitness.capture.observer import Observer
    from gradwitness.tape import Call


T = TypeVar("T")


class _LazySequence(Sequence[T]):
    """A sequence whose elements are computed on access, from those of another at the same place."""

    def __init__(self, make: Callable[[int], T], counted: Sized) -> None:
        self._make = make
        self._counted = counted

    def __len__(self) -> int:
        return len(self._counted)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if type(index) is slice:
            return [self._make(n) for n in range(*index.indices(len(self)))]
        if index < 0:
            raise IndexError(index)
        return self._make(index)


class Recorder:
    """Records what torch does between ``start`` and ``stop``.

    Parameters
    ----------
    *models, names, saved
        As for `record`.
    room : Room or None
        For values that no step needs any more; None for no limit.
    rerun : bool or collection
        Functions that may run again after the block, as for `watch`.

    Attributes
    ----------
    tape : Tape
        The recording, available once it has stopped.
    seconds : float
        Wall time of the block, without the observer's.
    spent : float
        Seconds of the block spent on recording, and in the observer.
    recording : float
        Those of them that were not the observer's.
    overhead : float
        Share of that time spent on recording, 0 to 1.
    """

    def __init__(
        self,
        *models: torch.nn.Module,
        names: Mapping[str, torch.Tensor] | None = None,
        saved: bool = False,
        room: Room | None = None,
        rerun: bool | Collection[Any] = (),
    ) -> None:
        self._values = ValueStore()
        self._audience = Audience()
        self._retention = Retention(self._values, room, self._audience.is_in_doubt)
        self._border = Border()
        self._compiled = Compiled()
        self._trail = ModuleTrail(
            self._name_parameters, self._records_here, self._border, self._compiled
        )
        self._dispatch = DispatchRecorder(
            self._values, self._trail, self._retention, self._audience, self._border
        )
        self._graph = GraphRecorder(self._values, self._dispatch, saved=saved)
        self._dispatch.applications.belong_to(self._graph.nodes)
        again = None if room is None else max(room)
        self._dispatch.applications.allow(rerun, again)
        self._outside = Outside()
        self._backward = BackwardRecorder(
            self._values,
            self._graph,
            self._dispatch,
            self._retention,
            self._audience,
            self._border,
            self._outside,
        )
        for name, tensor in (names or {}).items():
            self._values.name(tensor, name)
        self._models = models
        self._parameters: dict[int, None] = {}
        self._stack = contextlib.ExitStack()
        self._tape: Tape | None = None
        self._begun = 0.0
        self.recording = 0.0
        self.spent = 0.0
        self.seconds = 0.0

    @property
    def tape(self) -> Tape:
        """What happened.

        Raises
        ------
        CaptureError
            While recording still runs.
        """
        if self._tape is None:
            raise CaptureError("the recording is not ready before its block has ended")
        return self._tape

    @property
    def overhead(self) -> float:
        """Share of the block's wall time spent on recording."""
        return self.recording / self.seconds if self.seconds else 0.0

    def functions(self) -> Applications:
        """Return the custom functions of the program, which can be kept while recording."""
        return self._dispatch.applications

    def number_of(self, tensor: torch.Tensor) -> int | None:
        """Return the number of a tensor on the tape, while recording runs."""
        return self._border.take(self._values.of, tensor)

    def before_write(self, tensor: torch.Tensor) -> None:
        """Note that a tensor's memory is about to change without a call."""
        self._border.take(self._values.before_write, tensor)

    def growing(self) -> Tape:
        """Return the growing tape while recording runs, without the backward passes."""
        values, calls, nodes = self._values, self._dispatch.calls, self._graph.nodes
        return Tape(
            values=_LazySequence(values.value, values.drafts),
            calls=_LazySequence(self._call, calls),
            nodes=_LazySequence(lambda number: nodes[number].finish(number), nodes),
            sweeps=(),
            unseen=self._outside.unseen,
            rewritten=values.is_rewritten,
        )

    def _call(self, number: int) -> Call:
        draft = self._dispatch.calls[number]
        return draft.finish(number, self._graph.number(draft.backward_of))

    def start(self, observer: Observer | None = None) -> None:
        """Start recording, and telling an observer of each step."""
        require_fitting_rules()
        self._audience.observer = observer
        for model in self._models:
            self._border.take(self._trail.add, model)
        self._compiled.keep_away()
        self._stack.callback(self._compiled.let_back)
        FULL_COLLECTIONS.hold()
        self._stack.callback(FULL_COLLECTIONS.release)
        paths = FastPaths(self._backward)
        self._trail.start(paths)
        self._stack.callback(self._trail.stop)
        # The function mode is entered last, so that it sees `backward` first.
        self._stack.enter_context(self._dispatch)
        self._stack.enter_context(self._backward)
        self._stack.callback(paths.stop)
        # What it took to start is before the block.
        self._border.seconds = 0.0
        self._begun = time.perf_counter()

    def stop(self, error: BaseException | None = None) -> None:
        """Stop recording and write the tape; remove hooks and modes whatever happened.

        Parameters
        ----------
        error : BaseException, optional
            What ended the block.
        """
        self.spent = self._border.seconds
        self.seconds = time.perf_counter() - self._begun - self._audience.seconds
        self.recording = self.spent - self._audience.seconds
        with FULL_COLLECTIONS.held():
            self._stack.close()
            tape = self._border.attempt(self._written) or Tape((), (), (), (), _about())
        ended = None if error is None else Ending(type(error).__name__, raised_at(error))
        self._tape = replace(tape, failures=tuple(self._border.failures), ended=ended)

    @staticmethod
    def concluding() -> AbstractContextManager[None]:
        """Return a context in which many small objects are made of a block that has ended."""
        return FULL_COLLECTIONS.held()

    def _written(self) -> Tape:
        # After a failure, nothing was followed any more.
        if not self._border.failures:
            self._outside.unseen += self._compiled.unseen
            self._outside.unseen += closed(self._values, self._graph, self._outside.unseen)
        sweeps = tuple(draft.finish() for draft in self._backward.drafts)
        grads = {leaf.after for sweep in sweeps for leaf in sweep.leaves if leaf.after is not None}
        growing = self.growing()
        calls, nodes = tuple(growing.calls), tuple(growing.nodes)
        unused = tuple(unused_results(self._values, self._graph, self._dispatch))
        self._retention.end()
        # Free what is held of the program: tensors, nodes, graphs, models, the observer. At once,
        # without cycles that only the collector finds.
        self._backward.drafts.clear()
        del self._values.balance
        del self._graph, self._backward, self._dispatch, self._trail, self._models, self._audience
        foreign = self._values.foreign(grads) | self._values.release_tensors()
        replayable = self._retention.fits(self._values.bytes_of(foreign))
        if replayable:
            self._values.own(foreign)
        else:
            self._values.release(range(len(self._values.drafts)))
        tape = Tape(
            values=tuple(growing.values),
            calls=calls,
            nodes=nodes,
            sweeps=sweeps,
            about=_about() | self._outside.about() | let_go(),
            parameters=tuple(self._parameters),
            complete=self._retention.complete and replayable,
            replayable=replayable,
            unseen=tuple(self._outside.unseen),
            unused=unused,
        )
        del self._values, self._retention
        return tape

    def _records_here(self) -> bool:
        return is_on(self._dispatch)

    def _name_parameters(self, root: torch.nn.Module) -> None:
        self._outside.met(root)
        for name, parameter in root.named_parameters():
            self._values.name(parameter, name)
            # One made inside the block was no leaf yet when the call that made it was recorded.
            collects = parameter.is_leaf and parameter.requires_grad
            number = (self._values.leaf if collects else self._values.of)(parameter)
            self._parameters[number] = None
            # Spare until a step uses it.
            self._retention.hold([number])
            self._retention.drop([number])
        for name, buffer in root.named_buffers():
            self._values.name(buffer, name)


@contextlib.contextmanager
def record(
    *models: torch.nn.Module,
    names: Mapping[str, torch.Tensor] | None = None,
    saved: bool = False,
) -> Iterator[Recorder]:
    """Record a block of training code.

    Parameters
    ----------
    *models : torch.nn.Module
        Models whose parameter and module names the tape uses. A module called inside the block
        names itself, so this may be empty.
    names : mapping of str to Tensor, optional
        Names for other tensors, such as inputs.
    saved : bool
        Also record which tensors each node saved (runs the unpacking of saved-tensor hooks).

    Yields
    ------
    Recorder
        Its ``tape`` is ready after the block.
    """
    recorder = Recorder(*models, names=names, saved=saved)
    recorder.start()
    try:
        yield recorder
    except BaseException as error:
        recorder.stop(error)
        raise
    recorder.stop()


def _about() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
