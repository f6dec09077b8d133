"""One video file."""
