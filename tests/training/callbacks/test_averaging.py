import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from vidact.core.errors import ConfigError
from vidact.data.datamodule import VideoDataModule
from vidact.models.stacked import StackedFramesCNN
from vidact.training.callbacks.averaging import MeanWeights
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.classifier import ActionClassifier

CLASSES = ("left", "right", "up")
DECAY = 0.6

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class _ByHand(Callback):
    """The mean as its formula says: m ← d·m + (1 − d)·w after each step, from the weights after the first one."""

    def __init__(self) -> None:
        self.mean: dict[str, torch.Tensor] = {}
        self.trained: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        weights = self.trained = _weights(pl_module.network)
        if not self.mean:
            self.mean = weights
            return
        for name, value in weights.items():
            if value.is_floating_point():
                self.mean[name] = DECAY * self.mean[name] + (1 - DECAY) * value


class _Witness(RelevanceCallback):
    """Keeps the weights that it is given to explain, and looks at those that training goes on with."""

    def __init__(self, by_hand: _ByHand) -> None:
        super().__init__(every_n_epochs=1)
        self.by_hand = by_hand
        self.explained: list[dict[str, torch.Tensor]] = []
        self.went_on = False

    def _explain(self, trainer: Trainer, pl_module: LightningModule, *, stage: str) -> None:
        self.explained.append(_weights(pl_module.network))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.current_epoch == 1:
            _close(_weights(pl_module.network), self.by_hand.trained)
            self.went_on = True


def _network(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def _close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=lambda text, name=name: f"{name}: {text}")


def test_the_mean_is_measured_explained_and_kept_and_training_goes_on_with_the_trained(
    small_set: Path, tmp_path: Path
) -> None:
    seed_everything(3, verbose=False)
    network = StackedFramesCNN(3, num_frames=8, size=16, head="pooled")
    by_hand, means = _ByHand(), []
    witness = _Witness(by_hand)

    class _Note(Callback):
        def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            means.append(copy.deepcopy(by_hand.mean))

    full = ModelCheckpoint(tmp_path, filename="full-{epoch}", monitor="val/loss", save_top_k=-1)
    kept = ModelCheckpoint(
        tmp_path, filename="kept-{epoch}", monitor="val/clip_accuracy", save_top_k=-1, save_weights_only=True
    )
    later = ModelCheckpoint(tmp_path, filename="later-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = Trainer(
        callbacks=[MeanWeights(DECAY), by_hand, witness, _Note(), full, kept, later],
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = VideoDataModule(str(small_set), list(CLASSES), num_frames=8, size=16, batch_size=9, num_workers=0)
    trainer.fit(ActionClassifier(network, CLASSES, optimizer=lambda p: torch.optim.Adam(p, lr=0.01)), datamodule=data)
    assert witness.went_on
    assert len(witness.explained) == len(means) == 2
    for explained, mean in zip(witness.explained, means, strict=True):
        _close(explained, mean)
    moved = [name for name, value in means[-1].items() if not torch.allclose(value, by_hand.trained[name], rtol=1e-3)]
    assert moved, "the mean is not what was trained last, or this test could not tell them apart"
    for name in ("full", "kept", "later"):
        saved = torch.load(tmp_path / f"{name}-epoch=1.ckpt", weights_only=True)
        _close(_network(saved["state_dict"]), means[-1])
        if name != "kept":
            _close(_network(saved["current_model_state"]), by_hand.trained)
    _close(_weights(network), by_hand.mean)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_makes_no_sense_is_named(decay: float) -> None:
    with pytest.raises(ConfigError, match="0 <= decay < 1"):
        MeanWeights(decay)
