"""Compute logits and probabilities of texts with a trained model."""
