"""Models as files for other programs: traced into a graph, written, and checked against the model."""
