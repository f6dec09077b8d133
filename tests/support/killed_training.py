"""Runs `fit` again and again, each in a forked child that can end at a given moment, and prints what each came to.

A script of its own: torch and Lightning are imported once for all children, and the type checker of the tests, which
draws from Python's random numbers, stays out. It reads jobs as JSON, one a line: `folder`, `args`, and `moment` (the
name of a function in MOMENTS and the number of its call) with a `signal`, or none; with `resume`, training goes on if
there is something to go on from. Pictures are not drawn: they take more time than all the rest.
"""

import contextlib
import functools
import importlib
import json
import os
import signal
import sys
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch

from vidact.cli import main as cli
from vidact.cli.verbs import trainer as pipeline
from vidact.training.callbacks.relevance import callback as relevance
from vidact.training.classifier import ActionClassifier

assert pipeline  # imported here, for all children
# What is counted, and where a child may end: where the call begins.
MOMENTS = {
    "step": "vidact.training.classifier.ActionClassifier.training_step",
    "update": "torch.optim.AdamW.step",
    "validation": "vidact.training.classifier.ActionClassifier.validation_step",
    "measures": "vidact.training.classifier.ActionClassifier._log_measures",
    "explaining": "vidact.training.callbacks.relevance.callback.explain_clips",
    "drawing": "vidact.training.callbacks.relevance.callback.draw_finding",
    "writing": "vidact.core.files.os.fsync",
    "moving": "vidact.core.files.Path.replace",
    "rows": "vidact.runs.loggers.metrics_csv.KeptRows.save",
}


def _count(name: str, place: str, job: dict[str, Any], counts: Counter[str]) -> None:
    home, _, function = place.rpartition(".")
    try:
        owner: Any = importlib.import_module(home)
    except ModuleNotFoundError:
        module, _, inside = home.rpartition(".")
        owner = getattr(importlib.import_module(module), inside)
    original = getattr(owner, function)

    @functools.wraps(original)  # Lightning looks at the arguments
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        if job.get("moment") == [name, counts[name]]:
            os.kill(os.getpid(), getattr(signal, job["signal"]))
        return original(*args, **kwargs)

    setattr(owner, function, counted)


def _note_clips(path: Path) -> None:
    original = ActionClassifier.training_step

    @functools.wraps(original)
    def noted(self: ActionClassifier, batch: Any) -> Any:
        with path.open("a") as file:
            file.write(json.dumps([self.current_epoch, batch.window_index.tolist(), list(batch.clip_id)]) + "\n")
        return original(self, batch)

    ActionClassifier.training_step = noted  # type: ignore[method-assign]


def run(job: dict[str, Any]) -> None:
    """Run `fit`, as the body of a child."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    output = os.open(job["name"] + ".txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    relevance.draw_finding = lambda *_, **__: (defaultdict(Path), [])  # type: ignore[assignment]
    counts: Counter[str] = Counter()
    _note_clips(Path(job["name"] + ".jsonl").absolute())
    for name, place in MOMENTS.items():
        _count(name, place, job, counts)
    resume = ["--ckpt_path", "last"] if job.get("resume") and list(Path().glob("runs/*/checkpoints/last.ckpt")) else []
    status = cli.main(["fit", *job["args"], *resume])
    Path(job["name"] + ".counts.json").write_text(json.dumps(counts))
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    os._exit(status)


def main() -> None:
    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            try:
                run(json.loads(line))
            except BaseException:
                traceback.print_exc()
            os._exit(99)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
