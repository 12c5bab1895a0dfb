"""Linear attention as one GPU operation: kernels, their launches, TensorRT plugins."""
