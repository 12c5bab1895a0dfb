"""The mission check: where a flight over a pack will be localisable, said before take-off."""
