"""Small copies of a data set."""
