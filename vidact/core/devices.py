"""Tell which process this is, gather the results of all processes, and choose a device for a single process."""

import os
from typing import TypeVar

import torch
import torch.distributed as dist

from vidact.core.errors import ConfigError, EnvironmentProblem

Item = TypeVar("Item")


def local_rank() -> int:
    """Return this process's number on its machine, 0 for the first or only one, as launchers and SLURM set it."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def gather(items: list[Item]) -> list[Item]:
    """Concatenate the lists of all processes, in the order of their ranks; every process must call it.

    Items are sent as pickles, so keep them small.
    """
    if not (dist.is_available() and dist.is_initialized()):  # a single process
        return items
    parts: list[list[Item]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def leave_process_group() -> None:
    """Leave the group of processes, if there is one, once all work is done.

    Threads of torch's gloo backend that are still there when Python ends may abort the process, with status 134.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def choose_device(accelerator: str) -> torch.device:
    """Choose the device for work in a single process; `auto` takes a GPU where there is one.

    Raises:
        ConfigError: `accelerator` is none of auto, cpu, gpu and cuda.
        EnvironmentProblem: a GPU is asked for, and torch finds none.
    """
    if accelerator not in {"auto", "cpu", "gpu", "cuda"}:
        raise ConfigError(f"--accelerator must be auto, cpu or gpu, got {accelerator!r}")
    has_gpu = torch.cuda.is_available()
    if accelerator in {"gpu", "cuda"} and not has_gpu:
        raise EnvironmentProblem(f"--accelerator {accelerator}: torch finds no GPU; try --accelerator cpu")
    return torch.device("cuda" if accelerator != "cpu" and has_gpu else "cpu")
