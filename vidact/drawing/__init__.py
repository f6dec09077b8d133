"""Turn arrays into pictures, charts and videos."""
