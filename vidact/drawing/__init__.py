"""Arrays to pictures, charts and videos."""
