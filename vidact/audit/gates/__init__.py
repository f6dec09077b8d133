"""Conditions on which a command fails: for continuous integration."""
