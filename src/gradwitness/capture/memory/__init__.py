"""The program's tensors as numbered values, and the memory that they lie in."""
