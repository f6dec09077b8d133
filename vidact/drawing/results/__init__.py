"""Draw how good a network is."""
