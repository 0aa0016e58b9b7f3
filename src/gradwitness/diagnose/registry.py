"""All hypotheses: only mistakes listed here are considered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.diagnose.hypotheses.accumulated import another_added, earlier_passes
from gradwitness.diagnose.hypotheses.activations import activation_mistakes, derivative_of_nothing
from gradwitness.diagnose.hypotheses.along_axes import along_axes
from gradwitness.diagnose.hypotheses.arrangement import arrangement, misplaced, reordered
from gradwitness.diagnose.hypotheses.cells import detached_cells
from gradwitness.diagnose.hypotheses.clamped import clamp_mistakes
from gradwitness.diagnose.hypotheses.clipped import clipped_by_norm, clipped_by_value
from gradwitness.diagnose.hypotheses.cotangents import wrong_cotangents
from gradwitness.diagnose.hypotheses.drawn_again import computed_short, drawn_again, overwritten
from gradwitness.diagnose.hypotheses.elementwise import elementwise
from gradwitness.diagnose.hypotheses.factor import compounding_factor, constant_factor
from gradwitness.diagnose.hypotheses.localised import localised, not_finite
from gradwitness.diagnose.hypotheses.losses import loss_mistakes
from gradwitness.diagnose.hypotheses.misread_inputs import misread_inputs
from gradwitness.diagnose.hypotheses.mixed_up_inputs import no_gradient, swapped
from gradwitness.diagnose.hypotheses.nan_through_where import through_where
from gradwitness.diagnose.hypotheses.nearby_functions import nearby_functions
from gradwitness.diagnose.hypotheses.norm_backward import norm_mistakes
from gradwitness.diagnose.hypotheses.norm_eps import eps_elsewhere
from gradwitness.diagnose.hypotheses.norm_variance import wrong_deviation
from gradwitness.diagnose.hypotheses.operands import wrong_operands
from gradwitness.diagnose.hypotheses.options import loss_options, other_slopes
from gradwitness.diagnose.hypotheses.paths import dropped_paths, stopped_chains
from gradwitness.diagnose.hypotheses.pool_conv_embedding import dropout_mistakes, layer_mistakes
from gradwitness.diagnose.hypotheses.precision import low_precision
from gradwitness.diagnose.hypotheses.products import linear_mistakes, one_sample
from gradwitness.diagnose.hypotheses.repeated_indices import repeated_indices
from gradwitness.diagnose.hypotheses.scaled_paths import scaled_paths
from gradwitness.diagnose.hypotheses.stale_forward import stale_forward
from gradwitness.diagnose.hypotheses.summed import sums
from gradwitness.diagnose.hypotheses.targets import targets_by_hand
from gradwitness.diagnose.hypotheses.truncated_bptt import truncated
from gradwitness.diagnose.hypotheses.weights import weights
from gradwitness.diagnose.hypotheses.wrong_axes import wrong_axes
from gradwitness.diagnose.hypotheses.wrong_masks import masks
from gradwitness.diagnose.hypotheses.wrong_tensor import another_layer, another_pass
from gradwitness.diagnose.hypotheses.wrong_terms import wrong_terms
from gradwitness.diagnose.hypotheses.wrong_values import (
    wrong_derivatives,
    wrong_factors,
    wrong_values,
)
from gradwitness.diagnose.hypotheses.zeros import dead_slices, detached
from gradwitness.diagnose.programs import attention_programs, train_or_eval, updated_weights

if TYPE_CHECKING:
    from gradwitness.diagnose.case import Hypothesis

# These look at the claimed tensors, and at most at sums and sweeps on the tape.
TENSORS: tuple[Hypothesis, ...] = (
    constant_factor,
    compounding_factor,
    detached,
    arrangement,
    reordered,
    another_layer,
    another_pass,
    earlier_passes,
    another_added,
    clipped_by_norm,
    clipped_by_value,
    weights,
    elementwise,
    sums,
    dead_slices,
    not_finite,
    low_precision,
    localised,
)

# These replay the recorded backward pass, or program, with a mistake in it.
STRUCTURES: tuple[Hypothesis, ...] = (
    through_where,
    loss_mistakes,
    targets_by_hand,
    activation_mistakes,
    derivative_of_nothing,
    clamp_mistakes,
    linear_mistakes,
    norm_mistakes,
    layer_mistakes,
    dropout_mistakes,
    dropped_paths,
    stopped_chains,
    scaled_paths,
    truncated,
    detached_cells,
    stale_forward,
    wrong_operands,
    one_sample,
    train_or_eval,
    attention_programs,
    eps_elsewhere,
    wrong_deviation,
    other_slopes,
    loss_options,
    updated_weights,
)

HYPOTHESES: tuple[Hypothesis, ...] = TENSORS + STRUCTURES

# For a single custom function, by its own numbers.
AT_A_STEP: tuple[Hypothesis, ...] = (
    drawn_again,
    no_gradient,
    swapped,
    wrong_cotangents,
    constant_factor,
    wrong_terms,
    masks,
    wrong_derivatives,
    arrangement,
    reordered,
    misplaced,
    sums,
    dead_slices,
    not_finite,
    clipped_by_value,
    low_precision,
    through_where,
    activation_mistakes,
    loss_mistakes,
    norm_mistakes,
    layer_mistakes,
    dropout_mistakes,
    eps_elsewhere,
    repeated_indices,
    wrong_axes,
    along_axes,
    wrong_factors,
    wrong_values,
    misread_inputs,
    nearby_functions,
    computed_short,
    localised,
    overwritten,
)
