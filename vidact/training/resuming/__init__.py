"""Resume a training that was interrupted, with the same result as if it had not been."""
