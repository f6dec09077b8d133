"""What a forward pass does: its modules, its operations, and their rewriting for relevance rules."""
