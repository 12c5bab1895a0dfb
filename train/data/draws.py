"""Random numbers, one an image: every draw takes the generator and lives on its device."""

import torch


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Numbers (count,) in low..high."""
    drawn = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * drawn


def chance(count: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Truths (count,), each with this probability."""
    return torch.rand(count, generator=generator, device=generator.device) < share


def integers(count: int, low: int, high: int, generator: torch.Generator) -> torch.Tensor:
    """Integers (count,) in low..high, both included."""
    return torch.randint(low, high + 1, (count,), generator=generator, device=generator.device)


def rows_of(chosen: torch.Tensor) -> torch.Tensor:
    """Indices (n,) of the true entries of (B,): what costs much runs on these rows only."""
    return chosen.nonzero().squeeze(1)
