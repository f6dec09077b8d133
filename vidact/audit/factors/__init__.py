"""The parts of clips that are exchanged for those of donors."""
