"""The life of a run: open it, train, choose and ship a model, measure it, share it."""
