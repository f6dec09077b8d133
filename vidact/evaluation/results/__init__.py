"""What an evaluation found: tables, intervals, the verdict."""
