"""Rules that move, index, join or make numbers and compute nothing."""

from gradwitness.rules.shape import create as create
from gradwitness.rules.shape import embedding_bag as embedding_bag
from gradwitness.rules.shape import indexing as indexing
from gradwitness.rules.shape import joining as joining
from gradwitness.rules.shape import padding as padding
from gradwitness.rules.shape import pixel_shuffle as pixel_shuffle
from gradwitness.rules.shape import rearranging as rearranging
from gradwitness.rules.shape import scatter as scatter
from gradwitness.rules.shape import shape as shape
