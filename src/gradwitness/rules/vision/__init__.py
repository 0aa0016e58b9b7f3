"""Rules for torchvision's operators; nothing here needs it."""

from gradwitness.rules.vision import boxes as boxes
from gradwitness.rules.vision import deformed as deformed
from gradwitness.rules.vision import regions as regions
