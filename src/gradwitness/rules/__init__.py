"""One hand-derived rule for each operation: value, vjp, formula text and meaning together.

Importing this package fills the table; families are imported by name.
"""

from gradwitness.rules import elementwise as elementwise
from gradwitness.rules import graph_terms as graph_terms
from gradwitness.rules import layers as layers
from gradwitness.rules import linalg as linalg
from gradwitness.rules import loss as loss
from gradwitness.rules import reduce as reduce
from gradwitness.rules import second_order as second_order
from gradwitness.rules import shape as shape
from gradwitness.rules import training as training
from gradwitness.rules import vision as vision
from gradwitness.rules.registry import Rule as Rule
from gradwitness.rules.registry import Term as Term
from gradwitness.rules.registry import find as find
from gradwitness.rules.registry import find_node as find_node
from gradwitness.rules.registry import table as table
from gradwitness.rules.registry import terms as terms
