"""Measure whether explanations are right, and say which method to trust for a trained network: `evaluate`."""
