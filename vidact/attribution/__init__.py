"""A network and a clip to an explanation."""
