"""Every hypothesis, by name: a kind of fault that is not here is not thought of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.diagnose.accumulated import another_added, earlier_passes
from gradwitness.check.diagnose.activations import activation_faults, derivative_of_nothing
from gradwitness.check.diagnose.arrangement import arrangement, reordered
from gradwitness.check.diagnose.cells import detached_cells
from gradwitness.check.diagnose.clamped import clamp_faults
from gradwitness.check.diagnose.clipped import by_norm, by_value
from gradwitness.check.diagnose.deviations import deviations
from gradwitness.check.diagnose.elementwise import elementwise
from gradwitness.check.diagnose.elsewhere import another_layer, another_pass
from gradwitness.check.diagnose.eps import eps_elsewhere
from gradwitness.check.diagnose.factor import compounding_factor, constant_factor
from gradwitness.check.diagnose.localised import localised, not_finite
from gradwitness.check.diagnose.losses import loss_faults
from gradwitness.check.diagnose.normalised import norm_faults
from gradwitness.check.diagnose.operands import wrong_operands
from gradwitness.check.diagnose.options import loss_options, other_slopes
from gradwitness.check.diagnose.paths import dropped_paths, stopped_chains
from gradwitness.check.diagnose.precision import low_precision, rounded
from gradwitness.check.diagnose.products import linear_faults, one_sample
from gradwitness.check.diagnose.programs import (
    attention_programs,
    train_or_eval,
    updated_weights,
)
from gradwitness.check.diagnose.scaled_paths import scaled_paths
from gradwitness.check.diagnose.stale_forward import stale_forward
from gradwitness.check.diagnose.summed import sums
from gradwitness.check.diagnose.targets import targets_by_hand
from gradwitness.check.diagnose.through_time import truncated
from gradwitness.check.diagnose.through_where import through_where
from gradwitness.check.diagnose.weights import weights
from gradwitness.check.diagnose.windows import dropout_faults, picking_faults
from gradwitness.check.diagnose.zeros import dead_slices, detached

if TYPE_CHECKING:
    from gradwitness.check.diagnose.scene import Hypothesis

# What looks at the claimed tensors alone, or at sums and sweeps on the tape.
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
    by_norm,
    by_value,
    weights,
    elementwise,
    sums,
    dead_slices,
    not_finite,
    low_precision,
    rounded,
    localised,
)

# What plays the backward pass, or the program, on the tape again with a mistake in it.
STRUCTURES: tuple[Hypothesis, ...] = (
    through_where,
    loss_faults,
    targets_by_hand,
    activation_faults,
    derivative_of_nothing,
    clamp_faults,
    linear_faults,
    norm_faults,
    picking_faults,
    dropout_faults,
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
    deviations,
    other_slopes,
    loss_options,
    updated_weights,
)

HYPOTHESES: tuple[Hypothesis, ...] = TENSORS + STRUCTURES
