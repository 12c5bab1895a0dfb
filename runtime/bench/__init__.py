"""`skyfix bench`: how long every stage of a fix takes on this machine, and what it costs."""
