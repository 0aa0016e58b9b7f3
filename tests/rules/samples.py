"""The one table of samples, gathered from its families."""

from __future__ import annotations

from rules.samples_attention import ATTENTION
from rules.samples_combined import COMBINED
from rules.samples_complex import FOURIER, MOVED_COMPLEX, OVER_COMPLEX, PARTS
from rules.samples_create import CHOOSING, MADE
from rules.samples_decompositions import DECOMPOSITIONS
from rules.samples_functions import ACTIVATIONS, ELEMENTARY
from rules.samples_grids import GRIDS, TWICE_GRIDS
from rules.samples_grouped import GROUPED
from rules.samples_indexing import INDEXING
from rules.samples_linear import CONVOLUTION, LINEAR, RAGGED
from rules.samples_losses import ALIGNMENTS, BINARY, CLASSES, GAPS
from rules.samples_moving import JOINING, REARRANGING
from rules.samples_normalisation import NORMALISATION, SOFTMAX
from rules.samples_norms import DISTANCES, NORMS
from rules.samples_optimizers import OPTIMIZERS
from rules.samples_ordering import ORDERING
from rules.samples_placing import BAGS, PADDING, PLACING
from rules.samples_pointwise import POINTWISE
from rules.samples_pooling import POOLING
from rules.samples_products import PRODUCTS, SEVERAL
from rules.samples_recurrent import RECURRENT
from rules.samples_reductions import LOSSES, REDUCTIONS
from rules.samples_resampling import DROPOUT, RESAMPLING, SHUFFLING
from rules.samples_scalars import COMPARISONS, LOGARITHMS, ROUNDING, TRIGONOMETRY
from rules.samples_shape import COPIES, CREATE, SHAPE
from rules.samples_solving import SOLVING
from rules.samples_special import SPECIAL
from rules.samples_statistics import STATISTICS
from rules.samples_twice import TWICE
from rules.samples_twice_functions import TWICE_ACTIVATIONS, TWICE_LOSSES
from rules.samples_twice_layers import TWICE_CONVOLUTION, TWICE_NORMS
from rules.samples_twice_linear import TWICE_LINEAR
from rules.samples_vision import VISION
from rules.sampling import Draw as Draw
from rules.sampling import Sample as Sample
from rules.sampling import aten as aten

SAMPLES = (
    *ACTIVATIONS,
    *ALIGNMENTS,
    *ATTENTION,
    *BINARY,
    *BAGS,
    *CHOOSING,
    *CLASSES,
    *COMBINED,
    *COMPARISONS,
    *CONVOLUTION,
    *COPIES,
    *CREATE,
    *DECOMPOSITIONS,
    *DISTANCES,
    *DROPOUT,
    *ELEMENTARY,
    *FOURIER,
    *INDEXING,
    *GAPS,
    *GRIDS,
    *GROUPED,
    *MOVED_COMPLEX,
    *OVER_COMPLEX,
    *PARTS,
    *NORMS,
    *PRODUCTS,
    *SEVERAL,
    *JOINING,
    *LINEAR,
    *LOGARITHMS,
    *LOSSES,
    *MADE,
    *OPTIMIZERS,
    *ORDERING,
    *PADDING,
    *PLACING,
    *POINTWISE,
    *POOLING,
    *RAGGED,
    *REARRANGING,
    *NORMALISATION,
    *RECURRENT,
    *REDUCTIONS,
    *RESAMPLING,
    *ROUNDING,
    *SHAPE,
    *SHUFFLING,
    *SOFTMAX,
    *SOLVING,
    *SPECIAL,
    *STATISTICS,
    *TRIGONOMETRY,
    *TWICE,
    *TWICE_ACTIVATIONS,
    *TWICE_CONVOLUTION,
    *TWICE_GRIDS,
    *TWICE_LOSSES,
    *TWICE_NORMS,
    *TWICE_LINEAR,
    *VISION,
)
