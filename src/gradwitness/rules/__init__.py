"""One hand-derived rule for each operation: value, vjp, formula text and meaning together.

Importing this package fills the table; families are imported by name.
"""

from gradwitness.rules import activations as activations
from gradwitness.rules import alignment as alignment
from gradwitness.rules import attention as attention
from gradwitness.rules import bags as bags
from gradwitness.rules import choosing as choosing
from gradwitness.rules import combined as combined
from gradwitness.rules import comparisons as comparisons
from gradwitness.rules import convolution as convolution
from gradwitness.rules import create as create
from gradwitness.rules import distances as distances
from gradwitness.rules import dropout as dropout
from gradwitness.rules import grids as grids
from gradwitness.rules import grouped as grouped
from gradwitness.rules import indexing as indexing
from gradwitness.rules import interpolation as interpolation
from gradwitness.rules import joining as joining
from gradwitness.rules import linear as linear
from gradwitness.rules import logarithms as logarithms
from gradwitness.rules import losses as losses
from gradwitness.rules import losses_binary as losses_binary
from gradwitness.rules import losses_classes as losses_classes
from gradwitness.rules import nearest as nearest
from gradwitness.rules import normalisation as normalisation
from gradwitness.rules import norms as norms
from gradwitness.rules import optimizers as optimizers
from gradwitness.rules import ordering as ordering
from gradwitness.rules import padding as padding
from gradwitness.rules import placing as placing
from gradwitness.rules import pointwise as pointwise
from gradwitness.rules import pooling as pooling
from gradwitness.rules import products as products
from gradwitness.rules import ragged as ragged
from gradwitness.rules import rearranging as rearranging
from gradwitness.rules import recurrent as recurrent
from gradwitness.rules import reducing as reducing
from gradwitness.rules import reductions as reductions
from gradwitness.rules import rounding as rounding
from gradwitness.rules import shape as shape
from gradwitness.rules import shuffling as shuffling
from gradwitness.rules import softmax as softmax
from gradwitness.rules import solving as solving
from gradwitness.rules import statistics as statistics
from gradwitness.rules import structure as structure
from gradwitness.rules import trigonometry as trigonometry
from gradwitness.rules import twice as twice
from gradwitness.rules.registry import Rule as Rule
from gradwitness.rules.registry import Term as Term
from gradwitness.rules.registry import find as find
from gradwitness.rules.registry import find_node as find_node
from gradwitness.rules.registry import table as table
from gradwitness.rules.registry import terms as terms
