"""Measure what a run recognises: predictions, the parts of its data, and the table of `accuracy`."""
