"""What a program computes: each operation, its operands and results, and its place."""
