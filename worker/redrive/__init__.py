"""`emotion-worker redrive`: dead letters put back on the input topic."""
