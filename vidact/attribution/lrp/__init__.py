"""Layer-wise relevance propagation: rules, composites, checks."""
