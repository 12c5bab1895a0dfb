"""Images as the pretrained trunks expect them: ImageNet's mean and deviation a channel."""

import torch

# RGB, of torchvision's and timm's weights
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """RGB images (..., 3, H, W) in 0..1, less the mean, over the deviation."""
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = images.new_tensor(IMAGENET_STD)[:, None, None]
    return (images - mean) / std
