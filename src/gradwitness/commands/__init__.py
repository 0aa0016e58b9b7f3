"""Commands of the command line, one or a few in a file; `cli` puts them together."""
