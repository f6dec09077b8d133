"""Go on with a training that was interrupted."""
