"""A trained model → logits and probabilities of texts."""
