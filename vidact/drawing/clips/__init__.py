"""Draw one clip."""
