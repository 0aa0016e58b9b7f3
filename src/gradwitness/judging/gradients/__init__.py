"""From the verdicts of steps to those of the program's gradients."""
