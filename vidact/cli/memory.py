"""Let the C library keep the memory that tensors give back; it does not know what tensors are for."""

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt, from its malloc.h
NEVER = -1
OWN_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # how a user chooses, or replaces, the allocator


def keep_freed_memory() -> bool:
    """Keep freed memory for what comes next, in this process and in those that it forks; says whether that is so.

    A training step on a CPU takes and frees hundreds of megabytes. By default glibc hands large blocks back to the
    system at once, which clears each page anew when the next step asks for it. The memory of a process then stays at
    its peak. Nothing happens without glibc, or where the environment says how memory is allocated.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(OWN_SETTINGS) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))
