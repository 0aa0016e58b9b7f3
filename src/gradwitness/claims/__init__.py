"""Claims: gradients computed elsewhere, read from any source."""
