"""Make glibc keep freed memory, which speeds up training on a CPU."""

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt, from its malloc.h
NEVER = -1
OWN_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # how a user chooses, or replaces, the allocator


def keep_freed_memory() -> bool:
    """Keep freed memory for later use, in this process and in those that it forks; says whether that was set.

    A training step on a CPU allocates and frees hundreds of megabytes. By default glibc returns large blocks to the
    system at once, which clears each page again for the next step. In return the process keeps its peak memory.
    Nothing is set without glibc, or if the environment configures the allocator.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(OWN_SETTINGS) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))
