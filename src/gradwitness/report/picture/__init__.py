"""The labelled graph: records, layout, and a writer for each format."""
