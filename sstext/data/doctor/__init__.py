"""The data doctor, `sstext check`: faults of texts and labels. `examine.py` lists the checks."""
