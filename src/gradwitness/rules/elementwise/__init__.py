"""Rules that work element by element."""

from gradwitness.rules.elementwise import activations as activations
from gradwitness.rules.elementwise import addcmul as addcmul
from gradwitness.rules.elementwise import bessel as bessel
from gradwitness.rules.elementwise import comparisons as comparisons
from gradwitness.rules.elementwise import complex_numbers as complex_numbers
from gradwitness.rules.elementwise import histograms as histograms
from gradwitness.rules.elementwise import logarithms as logarithms
from gradwitness.rules.elementwise import pointwise as pointwise
from gradwitness.rules.elementwise import polynomials as polynomials
from gradwitness.rules.elementwise import rounding as rounding
from gradwitness.rules.elementwise import search_and_count as search_and_count
from gradwitness.rules.elementwise import special as special
from gradwitness.rules.elementwise import trigonometry as trigonometry
