"""Options and recipes: everything that a run can be told, free of torch."""
