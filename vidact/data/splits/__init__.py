"""Split clips into training, validation and test, and measure what leaks between the sides."""
