"""Faults around a backward pass though every formula is right, a file for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.pathology.accumulation import Accumulation
from gradwitness.judging.pathology.alignments import Alignments
from gradwitness.judging.pathology.branches import Branches
from gradwitness.judging.pathology.broadcasts import Broadcasts
from gradwitness.judging.pathology.cancelled import Cancelled
from gradwitness.judging.pathology.changed_unseen import ChangedUnseen
from gradwitness.judging.pathology.clipping import Clipping
from gradwitness.judging.pathology.constants import Constants
from gradwitness.judging.pathology.cotangents import Cotangents
from gradwitness.judging.pathology.dead import DeadUnits
from gradwitness.judging.pathology.decisions import Decisions
from gradwitness.judging.pathology.digits import LostDigits
from gradwitness.judging.pathology.disconnected import Disconnected
from gradwitness.judging.pathology.hooks import Hooks
from gradwitness.judging.pathology.idle import Idle
from gradwitness.judging.pathology.lost_sums import LostSums
from gradwitness.judging.pathology.nonfinite import Nonfinite
from gradwitness.judging.pathology.overwritten import Overwritten
from gradwitness.judging.pathology.probabilities import Probabilities
from gradwitness.judging.pathology.saturated import Saturated
from gradwitness.judging.pathology.sight import Sight
from gradwitness.judging.pathology.stale import Stale
from gradwitness.judging.pathology.targets import Targets
from gradwitness.judging.pathology.underflow import Underflow
from gradwitness.judging.pathology.unseen import Unseen
from gradwitness.judging.pathology.unused import Unused
from gradwitness.judging.pathology.updated_twice import UpdatedTwice
from gradwitness.judging.pathology.vanishing import Vanishing

if TYPE_CHECKING:
    from gradwitness.judging.pathology.detector import Detector

# In the order in which their notes are shown.
DETECTORS: tuple[type[Detector], ...] = (
    Unseen,
    Nonfinite,
    Underflow,
    Disconnected,
    Decisions,
    Cancelled,
    Sight,
    ChangedUnseen,
    Constants,
    Unused,
    Broadcasts,
    Probabilities,
    Targets,
    Clipping,
    Stale,
    Accumulation,
    Idle,
    UpdatedTwice,
    Overwritten,
    Cotangents,
    Hooks,
    DeadUnits,
    LostDigits,
    LostSums,
    Saturated,
    Vanishing,
    Alignments,
    Branches,
)
