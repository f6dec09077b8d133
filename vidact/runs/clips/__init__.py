"""Choose the clips that a run is evaluated and audited on."""
