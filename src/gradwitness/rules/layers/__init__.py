"""Rules of a network's layers that torch runs as one operation."""

from gradwitness.rules.layers import affine_grid as affine_grid
from gradwitness.rules.layers import attention as attention
from gradwitness.rules.layers import convolution as convolution
from gradwitness.rules.layers import dropout as dropout
from gradwitness.rules.layers import fractional_pooling as fractional_pooling
from gradwitness.rules.layers import grid_sample as grid_sample
from gradwitness.rules.layers import group_norm as group_norm
from gradwitness.rules.layers import normalisation as normalisation
from gradwitness.rules.layers import pooling as pooling
from gradwitness.rules.layers import recurrent as recurrent
from gradwitness.rules.layers import resize_interpolated as resize_interpolated
from gradwitness.rules.layers import resize_nearest as resize_nearest
from gradwitness.rules.layers import windows as windows
