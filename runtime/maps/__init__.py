"""The map side: rasters, tile packs and the search in them."""
