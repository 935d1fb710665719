"""One training: a subclass of the Hugging Face `Trainer`, its arguments, its callbacks and its loggers."""
