"""The one table of samples, gathered from its families."""

from __future__ import annotations

from rules.samples_combined import COMBINED
from rules.samples_functions import ACTIVATIONS, ELEMENTARY
from rules.samples_indexing import INDEXING
from rules.samples_linear import CONVOLUTION, LINEAR
from rules.samples_moving import JOINING, REARRANGING
from rules.samples_normalisation import NORMALISATION, SOFTMAX
from rules.samples_ordering import ORDERING
from rules.samples_pointwise import POINTWISE
from rules.samples_pooling import POOLING
from rules.samples_reductions import LOSSES, REDUCTIONS
from rules.samples_shape import CREATE, SHAPE
from rules.samples_statistics import STATISTICS
from rules.sampling import Draw as Draw
from rules.sampling import Sample as Sample
from rules.sampling import aten as aten

SAMPLES = (
    *ACTIVATIONS,
    *COMBINED,
    *CONVOLUTION,
    *CREATE,
    *ELEMENTARY,
    *INDEXING,
    *JOINING,
    *LINEAR,
    *LOSSES,
    *ORDERING,
    *POINTWISE,
    *POOLING,
    *REARRANGING,
    *NORMALISATION,
    *REDUCTIONS,
    *SHAPE,
    *SOFTMAX,
    *STATISTICS,
)
