"""Render a synthetic data set in which only motion tells the classes apart, with masks of what moves where."""
