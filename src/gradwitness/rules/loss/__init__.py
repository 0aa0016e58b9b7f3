"""Rules of losses."""

from gradwitness.rules.loss import ctc as ctc
from gradwitness.rules.loss import linear_cross_entropy as linear_cross_entropy
from gradwitness.rules.loss import losses as losses
from gradwitness.rules.loss import losses_binary as losses_binary
from gradwitness.rules.loss import losses_classes as losses_classes
