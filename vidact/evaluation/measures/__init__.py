"""Measures of explanations, as functions of tensors."""
