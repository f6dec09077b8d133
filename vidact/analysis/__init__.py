"""Explanations to numbers a person can read."""
