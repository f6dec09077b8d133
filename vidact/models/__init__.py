"""Networks that recognise actions, as plain modules."""
