"""Draw videos."""
