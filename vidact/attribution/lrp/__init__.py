"""Layer-wise relevance propagation (LRP) on the modules of a network: rules, composites, and checks of networks."""
