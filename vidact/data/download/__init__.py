"""Get data sets from their mirrors."""
