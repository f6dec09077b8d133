"""Measure and judge every clip of a data set."""
