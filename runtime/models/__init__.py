"""Models that ship with skyfix, one folder each."""
