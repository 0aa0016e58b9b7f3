"""Why a claimed gradient is wrong: ranked hypotheses, each with its evidence."""
