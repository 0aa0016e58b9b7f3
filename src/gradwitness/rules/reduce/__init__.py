"""Rules that sum, order or normalise along axes."""

from gradwitness.rules.reduce import distances as distances
from gradwitness.rules.reduce import norms as norms
from gradwitness.rules.reduce import prod_cumulative as prod_cumulative
from gradwitness.rules.reduce import ranks as ranks
from gradwitness.rules.reduce import scatter_reduce as scatter_reduce
from gradwitness.rules.reduce import segment_reduce as segment_reduce
from gradwitness.rules.reduce import softmax as softmax
from gradwitness.rules.reduce import sort_extremes as sort_extremes
from gradwitness.rules.reduce import statistics as statistics
from gradwitness.rules.reduce import sum_mean as sum_mean
