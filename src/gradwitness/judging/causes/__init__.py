"""Why a step is wrong, in the program's own words, and what to write instead."""
