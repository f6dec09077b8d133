"""Processes and devices: which one this is, which are used, and how processes share results."""

import os
from typing import TypeVar

import torch
import torch.distributed as dist

from vidact.core.errors import ConfigError, EnvironmentProblem


def local_rank() -> int:
    """Say which process of this machine this is, 0 for the first or only one; launchers and SLURM name it."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


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


def choose_device(accelerator: str) -> torch.device:
    """Name the device of work that one process does alone.

    Raises:
        ConfigError: an accelerator that there is not.
        EnvironmentProblem: a GPU is asked for, and torch finds none.
    """
    if accelerator not in {"auto", "cpu", "gpu", "cuda"}:
        raise ConfigError(f"--accelerator is auto, cpu or gpu, got {accelerator!r}")
    has_gpu = torch.cuda.is_available()
    if accelerator in {"gpu", "cuda"} and not has_gpu:
        raise EnvironmentProblem(f"--accelerator {accelerator}: torch finds no GPU; try --accelerator cpu")
    return torch.device("cuda" if accelerator != "cpu" and has_gpu else "cpu")
