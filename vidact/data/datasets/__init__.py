"""Data set layouts: which clips there are."""
