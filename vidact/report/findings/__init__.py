"""What `evaluate` and `audit` found, as a report shows it."""
