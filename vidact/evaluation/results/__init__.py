"""Summarise measured clips as tables with intervals, a verdict, and comparisons of runs."""
