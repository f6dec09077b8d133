"""Let a network run as its code is written: not compiled, and with no part whose gradient comes in a pass of its own.

It knows no network and no rule.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import checkpoint


@contextlib.contextmanager
def run_plainly() -> Iterator[None]:
    """Run what is compiled as it was before, and activation checkpoints so that hooks and gradients pass them.

    Compiled code knows none of the hooks that rules are made of. A reentrant checkpoint hides its part of the graph
    and cannot be differentiated by `torch.autograd.grad`; one that is not has the same result.
    """
    with _eager(), _not_reentrant():
        yield


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


class _NotReentrant:
    """In the place of the function that makes a reentrant checkpoint."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)


@contextlib.contextmanager
def _not_reentrant() -> Iterator[None]:
    before = checkpoint.CheckpointFunction
    checkpoint.CheckpointFunction = _NotReentrant  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        checkpoint.CheckpointFunction = before  # type: ignore[misc]
