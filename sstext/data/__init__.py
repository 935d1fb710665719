"""Files → rows → data sets → training batches; import from the module that defines what you need."""
