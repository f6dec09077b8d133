"""Watch a network's forward pass, and rewrite its modules so that relevance rules can follow it."""
