"""Draw what `evaluate` measured: curves, ranks, agreement of runs."""
