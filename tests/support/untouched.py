"""Trains a network twice, with and without explanations and their measures, and prints what differs as JSON.

A script of its own: the type checker of the tests draws from Python's random numbers.
"""

import json
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import nn

from vidact.data.datamodule import VideoDataModule
from vidact.models.stacked import StackedFramesCNN
from vidact.models.transformer import VideoTransformer
from vidact.training.callbacks.audit import AuditCallback
from vidact.training.callbacks.faithfulness.callback import FaithfulnessCallback
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.classifier import ActionClassifier

CLASSES = ("left", "right", "up")


class Fingerprints(Callback):
    """Records everything that training depends on, after every step and at the end of every epoch."""

    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._record(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._record(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._record(trainer, pl_module)

    def _record(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tensors = {**pl_module.state_dict(), "torch RNG": torch.get_rng_state()}
        for name, parameter in pl_module.named_parameters():
            tensors |= {f"{name}.grad": parameter.grad} if parameter.grad is not None else {}
            tensors |= {f"{name}.{key}": v for o in trainer.optimizers for key, v in o.state[parameter].items()}
        modes = [(module.training, len(module._forward_hooks)) for module in pl_module.modules()]
        numpy_state = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
        others = {"python RNG": random.getstate(), "numpy RNG": numpy_state, "modes": modes}
        self.found.append({name: tensor.numpy(force=True).tobytes() for name, tensor in tensors.items()} | others)


def _stacked() -> nn.Module:
    return StackedFramesCNN(len(CLASSES), num_frames=8, size=16, head="pooled")


def _transformer() -> nn.Module:
    """Explained in gradient form; dropout draws random numbers while it trains."""
    return VideoTransformer(
        len(CLASSES), num_frames=8, size=16, tubelet=(2, 4, 4), width=16, depth=1, heads=2, dropout=0.1
    )


# Name: the network, its last layer's weight, and the precision.
TRAININGS: dict[str, tuple[Callable[[], nn.Module], str, Any]] = {
    "32-true": (_stacked, "head.2.weight", "32-true"),
    "bf16-mixed": (_stacked, "head.2.weight", "bf16-mixed"),
    "transformer": (_transformer, "head.weight", "32-true"),
}


def train(root: Path, folder: Path, callbacks: list[Callback], name: str) -> list[dict[str, object]]:
    seed_everything(3, verbose=False)
    build, _, precision = TRAININGS[name]
    model = ActionClassifier(build(), CLASSES)
    data = VideoDataModule(str(root), list(CLASSES), num_frames=8, size=16, batch_size=9, num_workers=0)
    fingerprints = Fingerprints()
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision=precision,
        logger=False,
        default_root_dir=folder,
        callbacks=[*callbacks, fingerprints],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=data)
    return fingerprints.found


def main(root: Path, folder: Path) -> dict[str, object]:
    warnings.simplefilter("ignore")
    result: dict[str, object] = {}
    for name in TRAININGS:
        faithfulness = FaithfulnessCallback(every_n_epochs=1, clips_per_class=1, num_steps=4)
        audit = AuditCallback(every_n_epochs=1)
        callbacks = [RelevanceCallback(every_n_epochs=1), faithfulness, audit]
        with_it = train(root, folder / name, callbacks, name)
        without = train(root, folder, [], name)
        differing = [
            key
            for one, other in zip(with_it, without, strict=True)
            for key in one.keys() | other.keys()
            if one.get(key) != other.get(key)
        ]
        states = len({row[f"network.{TRAININGS[name][1]}"] for row in with_it})
        maps = sorted(audit.state_dict()["maps"])
        found = {"records": len(with_it), "states": states, "differing": sorted(set(differing)), "maps": maps}
        result[name] = found
    return result


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
