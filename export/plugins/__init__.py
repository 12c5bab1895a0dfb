"""Operations of ours that TensorRT takes as plugins."""
