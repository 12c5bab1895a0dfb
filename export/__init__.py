"""From checkpoint and raster to what flies: ONNX graphs and tile packs."""
