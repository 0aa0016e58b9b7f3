"""The context manager around ordinary training code."""

from __future__ import annotations

import contextlib
import platform
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradwitness._errors import CaptureError
from gradwitness.capture.dispatch import DispatchRecorder
from gradwitness.capture.gradients import BackwardRecorder
from gradwitness.capture.graph import GraphRecorder
from gradwitness.capture.source import ModuleTrail
from gradwitness.capture.values import ValueStore
from gradwitness.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Recorder:
    """Records what torch does between ``start`` and ``stop``.

    Attributes
    ----------
    tape : Tape
        What happened; there once recording has stopped.
    seconds : float
        Wall time of the block.
    overhead : float
        Share of that time that went into recording operations, 0 to 1.
    """

    def __init__(
        self,
        *models: torch.nn.Module,
        names: Mapping[str, torch.Tensor] | None = None,
        saved: bool = False,
    ) -> None:
        self._values = ValueStore()
        self._trail = ModuleTrail(self._name_parameters)
        self._dispatch = DispatchRecorder(self._values, self._trail)
        self._graph = GraphRecorder(self._values, self._dispatch.calls, saved=saved)
        self._backward = BackwardRecorder(self._values, self._graph, self._dispatch)
        for name, tensor in (names or {}).items():
            self._values.name(tensor, name)
        self._models = models
        self._stack = contextlib.ExitStack()
        self._tape: Tape | None = None
        self._begun = 0.0
        self._recording = 0.0
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
            raise CaptureError("the tape is ready when the recorded block has ended")
        return self._tape

    @property
    def overhead(self) -> float:
        """Share of the block's wall time that went into recording operations."""
        return self._recording / self.seconds if self.seconds else 0.0

    def start(self) -> None:
        """Begin to record."""
        for model in self._models:
            self._trail.add(model)
        self._trail.start()
        self._stack.callback(self._trail.stop)
        # The function mode is entered last, so that it meets `backward` before anything else.
        self._stack.enter_context(self._dispatch)
        self._stack.enter_context(self._backward)
        self._begun = time.perf_counter()

    def stop(self) -> None:
        """End recording and write the tape; hooks and modes are gone whatever happened."""
        self.seconds = time.perf_counter() - self._begun
        self._stack.close()
        self._recording = self._dispatch.seconds
        sweeps = tuple(self._backward.sweeps)
        grads = {leaf.after for sweep in sweeps for leaf in sweep.leaves if leaf.after is not None}
        self._values.own(grads)
        calls = tuple(
            draft.finish(number, self._graph.number(draft.backward_of))
            for number, draft in enumerate(self._dispatch.calls)
        )
        self._tape = Tape(
            values=self._values.finish(),
            calls=calls,
            nodes=tuple(draft.finish(n) for n, draft in enumerate(self._graph.nodes)),
            sweeps=sweeps,
            about=_about(),
        )
        # What is held of the program is let go: tensors, nodes, graphs, models.
        del self._values, self._graph, self._backward, self._dispatch, self._trail, self._models

    def _name_parameters(self, root: torch.nn.Module) -> None:
        for name, parameter in root.named_parameters():
            self._values.name(parameter, name)
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
        Models whose parameter and module names the tape shall use. A module that is called inside
        the block names itself, so this may be empty.
    names : mapping of str to Tensor, optional
        Names for other tensors, inputs above all.
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
    finally:
        recorder.stop()


def _about() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
