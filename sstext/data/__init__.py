"""From files to rows, data sets and training batches. Import each name from the module that defines it."""
