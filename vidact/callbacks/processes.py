"""Bring together what several processes found; it does not know what that is."""

from typing import TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


def gather(items: list[Item]) -> list[Item]:
    """Join the lists of all processes, in the order of their ranks; call it on every process.

    The items are pickled, so they are small and plain.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return items
    parts: list[list[Item]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
