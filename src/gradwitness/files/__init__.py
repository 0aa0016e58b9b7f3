"""Read and write tapes and gradients: files are never half written, and never trusted."""
