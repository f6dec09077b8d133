"""Trains through the command line, is killed at given moments, and goes on: run as a script, with a list of attempts.

Everything heavy is imported once, and each attempt is a fork of this process, which has started no thread.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vidact import checkpoint_io, pipeline
from vidact.callbacks.relevance import RelevanceCallback
from vidact.cli import main
from vidact.training import ActionClassifier

# Where a kill can strike: in a training step, in validation, while clips are explained, while a checkpoint is saved.
MOMENTS: dict[str, tuple[Any, str]] = {
    "step": (ActionClassifier, "training_step"),
    "validation": (ActionClassifier, "validation_step"),
    "explaining": (RelevanceCallback, "_findings"),
    "drawing": (RelevanceCallback, "_write"),
    "saving": (checkpoint_io.torch, "save"),
    "saved": (checkpoint_io, "_flush_folder"),
}


class Witness(Callback):
    """Notes what each step is trained on."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seen = [trainer.current_epoch, batch_idx, batch.window_index.tolist(), batch.video.sum().item()]
        with Path("seen.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")


def arm(moment: str, count: int, number: int) -> None:
    """Send a signal to this process at the count-th call of what happens at a moment; the call before it is whole."""
    owner, name = MOMENTS[moment]
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def counted(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            if moment == "saving":  # half of it is written
                args[1].write(b"half")
                args[1].flush()
            os.kill(os.getpid(), number)
        return original(*args, **settings)

    setattr(owner, name, counted)


def attempt(args: list[str], moment: str | None, count: int, number: int) -> int:
    """Run `fit` in a fork, and say how it ended: its status, or minus the signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        torch.set_num_threads(1)
        build = pipeline.build_callbacks
        pipeline.build_callbacks = lambda *given, **more: [*build(*given, **more), Witness()]  # type: ignore[assignment]
        if moment is not None:
            arm(moment, count, number)
        status = main(args)
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for args, moment, count, name in json.loads(sys.argv[1]):
        print("ended", attempt(args, moment, count, getattr(signal, name)), flush=True)
