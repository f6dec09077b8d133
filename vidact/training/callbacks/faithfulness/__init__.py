"""Measure explanations while a network trains."""
