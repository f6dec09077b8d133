"""Where the actor of a clip is."""
