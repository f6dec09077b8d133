"""Whether an explanation is right: measures of relevance against what the network does and against known truth."""
