"""What the passes of one recording share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.capture.border import Border
    from gradwitness.capture.calls.dispatch import DispatchRecorder
    from gradwitness.capture.memory.retention import Retention
    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.observer import Audience
    from gradwitness.capture.passes.dropped import Dropped
    from gradwitness.capture.passes.graph import GraphRecorder
    from gradwitness.capture.passes.outside import Outside


@dataclass(frozen=True)
class Context:
    """Shared by the passes of one recording."""

    values: ValueStore
    graph: GraphRecorder
    dispatch: DispatchRecorder
    retention: Retention
    audience: Audience
    border: Border
    outside: Outside
    dropped: Dropped
