"""Inspect every clip of a data set by decoding it, remember the results, and report what is wrong."""
