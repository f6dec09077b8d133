"""A picture that cannot be written costs no training."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from vidact.training.callbacks.confusion import ConfusionMatrix
from vidact.training.classifier import ActionClassifier


@pytest.mark.parametrize("writable", [True, False])
def test_a_confusion_matrix_that_cannot_be_written_is_told(tmp_path: Path, writable: bool) -> None:
    path = tmp_path / "confusion_test.png"
    if not writable:
        path.mkdir()
    model = ActionClassifier(nn.Linear(1, 2), ["run", "walk"])
    model.confusion["test"] = torch.tensor([[3, 1], [0, 4]])
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    callback = ConfusionMatrix()
    if writable:
        callback.on_test_end(trainer, model)
        assert path.stat().st_size > 1000
    else:
        with pytest.warns(UserWarning, match="there is no confusion matrix: .*confusion_test.png: cannot be written"):
            callback.on_test_end(trainer, model)
    assert sorted(tmp_path.iterdir()) == [path], "nothing half-written stays"
