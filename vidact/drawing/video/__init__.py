"""Write videos with the relevance on top and a time line below."""
