"""The report as one HTML file: its first screen as plain HTML, the rest as data for its script."""
