"""Scores of the corpus → the labels that the next student may learn from."""
