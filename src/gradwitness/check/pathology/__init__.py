"""What goes wrong around a backward pass though every formula is right, a file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.pathology.cotangents import Cotangents
from gradwitness.check.pathology.dead import DeadUnits
from gradwitness.check.pathology.digits import LostDigits
from gradwitness.check.pathology.disconnected import Disconnected
from gradwitness.check.pathology.hooks import Hooks
from gradwitness.check.pathology.idle import Idle
from gradwitness.check.pathology.nonfinite import Nonfinite
from gradwitness.check.pathology.overwritten import Overwritten
from gradwitness.check.pathology.stale import Stale

if TYPE_CHECKING:
    from gradwitness.check.pathology.detector import Detector

# In the order in which their notes are shown.
DETECTORS: tuple[type[Detector], ...] = (
    Nonfinite,
    Disconnected,
    Stale,
    Idle,
    Overwritten,
    Cotangents,
    Hooks,
    DeadUnits,
    LostDigits,
)
