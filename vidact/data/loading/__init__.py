"""Clips to batches."""
