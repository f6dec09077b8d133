"""Ways of explaining other than layer-wise relevance propagation."""
