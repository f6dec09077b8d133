"""Layer-wise relevance in gradient form: relevance travels as g = R / x, through any code made of torch functions."""
