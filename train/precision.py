"""The narrow number types that training may compute in."""

import torch

NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Autocast for "bf16" or "fp16"; does nothing for "fp32"."""
    narrow = NARROW.get(precision)
    return torch.autocast(device.type, narrow, enabled=narrow is not None)
