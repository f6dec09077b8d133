"""Measure what a trained network leans on, by exchanging one factor of its clips for another clip's: `audit`."""
