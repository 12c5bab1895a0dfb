"""One file a network; config.py chooses among them, build.py makes them."""
