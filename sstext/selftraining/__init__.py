"""The rounds of self-training: read `loop.py` first."""
