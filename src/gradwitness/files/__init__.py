"""Reading and writing: tapes and gradients in files, never half written, never trusted."""
