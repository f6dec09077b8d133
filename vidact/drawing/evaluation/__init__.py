"""Draw what an evaluation found."""
