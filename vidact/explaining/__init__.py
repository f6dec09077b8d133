"""Explain videos of any length."""
