"""What relevance proposes to an audit: regions, clusters of strategies, and why classes are confused."""
