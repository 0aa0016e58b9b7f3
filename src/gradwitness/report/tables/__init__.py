"""Tables and text, a file for each kind of report."""
