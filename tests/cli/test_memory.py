"""Memory that tensors give back is there for the next ones, where nobody has chosen otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from vidact.cli.memory import keep_freed_memory

# Pages that the system has to clear for ten tensors of 64 MB, one after the other, after ten like them.
COUNTING = """
import resource
import torch
from vidact.cli.memory import keep_freed_memory
if {keep}:
    print(keep_freed_memory())
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _count(*, keep: bool) -> list[str]:
    chosen = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", COUNTING.format(keep=keep)],
        env={**chosen, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_pages_are_cleared_once() -> None:
    (usual,) = _count(keep=False)
    kept, pages = _count(keep=True)
    assert kept == "True"
    assert int(pages) < int(usual) / 100


def test_who_has_chosen_keeps_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
