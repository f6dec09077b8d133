"""Explain videos of any length: `explain` on the command line and in notebooks."""
