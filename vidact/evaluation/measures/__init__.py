"""Measures of explanations: functions of relevance maps, masks and scores, one file for each family."""
