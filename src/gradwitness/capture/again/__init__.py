"""The program's code, run once more beside it, without a trace."""
