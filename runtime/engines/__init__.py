"""Networks as engines: what a model folder holds and what runs it."""
