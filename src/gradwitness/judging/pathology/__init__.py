"""Faults around a backward pass though every formula is right, a file for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.pathology.alignments import Alignments
from gradwitness.judging.pathology.branches import Branches
from gradwitness.judging.pathology.cotangents import Cotangents
from gradwitness.judging.pathology.dead import DeadUnits
from gradwitness.judging.pathology.digits import LostDigits
from gradwitness.judging.pathology.disconnected import Disconnected
from gradwitness.judging.pathology.hooks import Hooks
from gradwitness.judging.pathology.idle import Idle
from gradwitness.judging.pathology.lost_sums import LostSums
from gradwitness.judging.pathology.nonfinite import Nonfinite
from gradwitness.judging.pathology.overwritten import Overwritten
from gradwitness.judging.pathology.sight import Sight
from gradwitness.judging.pathology.stale import Stale
from gradwitness.judging.pathology.unseen import Unseen
from gradwitness.judging.pathology.vanishing import Vanishing

if TYPE_CHECKING:
    from gradwitness.judging.pathology.detector import Detector

# In the order in which their notes are shown.
DETECTORS: tuple[type[Detector], ...] = (
    Unseen,
    Nonfinite,
    Disconnected,
    Sight,
    Stale,
    Idle,
    Overwritten,
    Cotangents,
    Hooks,
    DeadUnits,
    LostDigits,
    LostSums,
    Vanishing,
    Alignments,
    Branches,
)
