from typing import Any
from unittest.mock import NonCallableMock, call

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from vidact.training.callbacks.step_log import StepLog


def _trainer(batches: float, accumulate: int = 1, **settings: Any) -> Any:
    own = {"num_training_batches": batches, "accumulate_grad_batches": accumulate, "log_every_n_steps": 50}
    return NonCallableMock(Trainer, **own, **settings)


@pytest.mark.parametrize(
    ("batches", "accumulate", "expected"),
    [(1, 1, 1), (7, 1, 1), (35, 1, 3), (35, 4, 1), (400, 1, 40), (9000, 1, 50), (float("inf"), 1, 50)],
)
def test_every_epoch_has_several_points(batches: float, accumulate: int, expected: int) -> None:
    trainer = _trainer(batches, accumulate)
    StepLog(chooses_rate=True).on_train_start(trainer, LightningModule())
    assert trainer.log_every_n_steps == expected


def test_what_was_asked_for_is_done() -> None:
    trainer = _trainer(7)
    StepLog(chooses_rate=False).on_train_start(trainer, LightningModule())
    assert trainer.log_every_n_steps == 50


def test_the_rate_of_each_group_of_parameters_is_logged() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=0.1)
    module = NonCallableMock(LightningModule)
    StepLog(chooses_rate=True).on_train_batch_start(_trainer(7, optimizers=[optimizer]), module, None, 0)
    settings = {"on_step": True, "on_epoch": False, "batch_size": 1}
    names = ("train/learning_rate", "train/learning_rate/2")
    assert module.log.mock_calls == [call(name, rate, **settings) for name, rate in zip(names, (0.1, 0.5), strict=True)]
