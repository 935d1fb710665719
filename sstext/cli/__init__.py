"""The command line: one file per command, and its tables beside it."""
