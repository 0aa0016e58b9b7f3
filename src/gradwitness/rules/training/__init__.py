"""Rules of what updates parameters."""

from gradwitness.rules.training import optimizers as optimizers
