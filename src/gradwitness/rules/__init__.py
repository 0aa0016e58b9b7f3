"""One hand-derived rule for each operation: value, vjp, formula text and meaning together.

Importing this package fills the table; families are imported by name.
"""

from gradwitness.rules import (
    activations,
    combined,
    convolution,
    create,
    indexing,
    joining,
    linear,
    losses,
    normalisation,
    ordering,
    pointwise,
    pooling,
    rearranging,
    reductions,
    shape,
    softmax,
    structure,
)
from gradwitness.rules.registry import Rule as Rule
from gradwitness.rules.registry import Term as Term
from gradwitness.rules.registry import find as find
from gradwitness.rules.registry import find_node as find_node
from gradwitness.rules.registry import table as table
from gradwitness.rules.registry import terms as terms

FAMILIES = (
    activations,
    combined,
    convolution,
    create,
    indexing,
    joining,
    linear,
    losses,
    normalisation,
    ordering,
    pointwise,
    pooling,
    rearranging,
    reductions,
    shape,
    softmax,
    structure,
)
