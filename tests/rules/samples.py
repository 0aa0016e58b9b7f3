"""The one table of samples, gathered from its families."""

from __future__ import annotations

from rules.samples_functions import ACTIVATIONS, ELEMENTARY
from rules.samples_linear import CONVOLUTION, LINEAR
from rules.samples_pointwise import POINTWISE
from rules.samples_reductions import LOSSES, REDUCTIONS
from rules.samples_shape import CREATE, SHAPE
from rules.sampling import Draw as Draw
from rules.sampling import Sample as Sample
from rules.sampling import aten as aten

SAMPLES = (
    *ACTIVATIONS,
    *CONVOLUTION,
    *CREATE,
    *ELEMENTARY,
    *LINEAR,
    *LOSSES,
    *POINTWISE,
    *REDUCTIONS,
    *SHAPE,
)
