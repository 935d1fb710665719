"""The life of a run: open it, train, choose a model, measure it, share it."""
