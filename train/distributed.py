"""One run on several devices, started by torchrun: equal gradients on all, negatives of all.

    rank r encodes its share of the batch -> descriptors of all ranks are gathered -> every rank
    computes the loss of the joint batch

The gather's backward pass sums what all ranks' losses send to a descriptor, and
DistributedDataParallel takes the mean of the ranks' gradients: the two factors of the world size
cancel, and what remains is the gradient of one process on the joint batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from skyfix.runtime.errors import InputError


def local_device(name: str) -> torch.device:
    """The device of "cpu", "cuda" or "auto"; under torchrun each process has its own GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is visible; name --device cpu to train without one")
    rank = os.environ.get("LOCAL_RANK", "0")
    return torch.device(f"cuda:{rank}" if name == "cuda" else name)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started; does nothing in a process started otherwise."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """Rows (B, ...) of all ranks in order (W*B, ...), gradients flowing back to each."""
    if world()[1] == 1:
        return rows
    joint = _Gather.apply(rows.contiguous())  # type: ignore[no-untyped-call]  # torch leaves it so
    return torch.as_tensor(joint)


class _Gather(torch.autograd.Function):
    """torch's own differentiable all_gather is deprecated without one that gloo can run."""

    @staticmethod
    def forward(_context: object, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(world()[1])]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(_context: object, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)  # what the losses of all ranks send
        return gradient.chunk(world()[1])[world()[0]]
