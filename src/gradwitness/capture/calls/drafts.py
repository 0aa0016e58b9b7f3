"""Calls and nodes while they are being recorded, with fields that are filled in later."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

from gradwitness.tape import Argument, Call, Edge, Kind, Node, Source


@dataclass(slots=True, eq=False)
class CallDraft:
    """A call while it is being recorded: its node is found later.

    ``alone`` says whether that node runs no code of the program: no custom function's, and no hooks
    that unpack saved tensors, as checkpoints have. ``grad_mode`` is off within a custom function.
    """

    op: str
    arguments: dict[str, Argument]
    outputs: tuple[int | None, ...]
    writes: tuple[str, ...]
    is_view: bool
    sequence: int
    grad_enabled: bool
    backward_of: Any
    source: Source
    node: int | None = None
    base: int | None = None
    alone: bool = True
    grad_mode: bool = True
    thread: int = field(default_factory=get_ident)
    finished: Call | None = None

    def finish(self, number: int, during: int | None) -> Call:
        """Return the frozen call, the same until its nodes are other ones."""
        call = self.finished
        if call is None or call.node != self.node or call.during != during:
            call = self.finished = Call(
                number,
                self.op,
                self.arguments,
                self.outputs,
                self.writes,
                self.is_view,
                self.node,
                during,
                self.source,
                self.base,
                self.grad_enabled,
            )
        return call


@dataclass(slots=True, eq=False)
class NodeDraft:
    """A node while it is being recorded; ``alive`` keeps torch's object, and so its identity."""

    alive: Any
    name: str
    edges: tuple[Edge | None, ...] = ()
    kind: str = Kind.UNKNOWN
    outputs: list[int | None] = field(default_factory=list)
    call: int | None = None
    inner: tuple[int, ...] = ()
    leaf: int | None = None
    saved: tuple[tuple[str, int | None], ...] = ()

    def finish(self, number: int) -> Node:
        """Return the frozen node."""
        return Node(
            number,
            self.name,
            self.kind,
            self.edges,
            tuple(self.outputs),
            self.call,
            self.inner,
            self.leaf,
            self.saved,
        )
