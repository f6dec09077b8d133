"""Measure how faithful explanations are while a network trains."""
