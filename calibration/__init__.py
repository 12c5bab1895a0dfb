"""Numbers for INT8 engines."""
