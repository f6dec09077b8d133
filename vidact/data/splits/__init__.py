"""Divide clips into train, validation and test."""
