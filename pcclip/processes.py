"""Communication between the processes of a distributed run. Without a process group there is one process."""

from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def _is_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the rank of this process."""
    return distributed.get_rank() if _is_group() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_group() else 1


def broadcast(value: T) -> T:
    """Return the value of rank 0 in every process. All processes must call it."""
    if not _is_group():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather(tensor: Tensor) -> Tensor:
    """Return the tensors (...) of all W processes, of equal shape, as (W, ...). All processes must call it."""
    if not _is_group():
        return tensor[None]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)
