"""Running the rules: precision, bounds, forward and backward order. Only here."""
