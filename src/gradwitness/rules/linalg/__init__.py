"""Rules of linear algebra and Fourier transforms."""

from gradwitness.rules.linalg import decompositions as decompositions
from gradwitness.rules.linalg import factor_dispatch as factor_dispatch
from gradwitness.rules.linalg import fourier as fourier
from gradwitness.rules.linalg import grouped_mm as grouped_mm
from gradwitness.rules.linalg import householder as householder
from gradwitness.rules.linalg import ldl as ldl
from gradwitness.rules.linalg import least_squares as least_squares
from gradwitness.rules.linalg import linear as linear
from gradwitness.rules.linalg import lu as lu
from gradwitness.rules.linalg import matrix_functions as matrix_functions
from gradwitness.rules.linalg import solving as solving
from gradwitness.rules.linalg import sparse as sparse
from gradwitness.rules.linalg import triangular_solve as triangular_solve
