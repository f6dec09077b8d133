"""The words that all parts share. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
