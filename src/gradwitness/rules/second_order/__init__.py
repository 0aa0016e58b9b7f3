"""Rules of backward operations that are differentiated once more."""

from gradwitness.rules.second_order import activations as activations
from gradwitness.rules.second_order import convolution as convolution
from gradwitness.rules.second_order import linear_maps as linear_maps
from gradwitness.rules.second_order import losses as losses
from gradwitness.rules.second_order import normalisation as normalisation
from gradwitness.rules.second_order import softmax_and_losses as softmax_and_losses
from gradwitness.rules.second_order import transposed_parameters as transposed_parameters
