"""How good predictions are, and how well their probabilities are calibrated."""
