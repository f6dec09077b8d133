"""Explain validation clips while a network trains."""
