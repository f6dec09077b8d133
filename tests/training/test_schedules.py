"""Schedules are as long as training, step when they should, and go on as they were."""

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from vidact.core.errors import ConfigError
from vidact.training.schedules import WarmupCosine, build_schedule, check_resumed_schedule, training_length

SILENT: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
SILENT |= {"enable_model_summary": False, "accelerator": "cpu"}
BATCHES = 5


class _Model(LightningModule):
    """One weight; it notes how many steps the schedule has made, and the rate of each step of the optimizer."""

    def __init__(self, make: Any, interval: Any = "auto") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.make, self.interval = make, interval
        self.rates: list[float] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/loss", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        schedule = build_schedule(self.make, optimizer, interval=self.interval, trainer=self._trainer)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def _loader() -> DataLoader[torch.Tensor]:
    return DataLoader([torch.ones(1)] * BATCHES, batch_size=1)  # type: ignore[arg-type]


def _fit(model: _Model, *, callbacks: list[Callback] | None = None, ckpt: Path | None = None, **limits: Any) -> Trainer:
    trainer = Trainer(**SILENT, callbacks=callbacks, **limits)
    trainer.fit(model, _loader(), _loader(), ckpt_path=ckpt)
    return trainer


@pytest.mark.parametrize(("warmup", "epochs"), [(1, 2), (5, 30), (10, 12), (0, 4)])
def test_the_rate_rises_linearly_and_falls_along_a_cosine(warmup: int, epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    schedule = WarmupCosine(optimizer, max_epochs=epochs, warmup_epochs=warmup)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for epoch, rate in enumerate(rates):
        if epoch < warmup:
            expected = 0.5 * (epoch * warmup + warmup) / (warmup * (warmup + 1))
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))
        assert rate == pytest.approx(expected), epoch
    for _ in range(epochs):  # training that goes on longer does not learn anew
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("warmup", "epochs"), [(-1, 10), (10, 10), (5, 3)])
def test_a_schedule_that_cannot_fall_is_refused(warmup: int, epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    with pytest.raises(ConfigError, match="0 <= warmup_epochs < max_epochs"):
        WarmupCosine(optimizer, max_epochs=epochs, warmup_epochs=warmup)


def test_without_warm_up_it_is_torchs_cosine() -> None:
    rates = []
    for make in (partial(WarmupCosine, max_epochs=7, warmup_epochs=0), partial(CosineAnnealingLR, T_max=7)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        schedule: Any = make(optimizer)
        rates.append([])
        for _ in range(7):
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    assert rates[0] == pytest.approx(rates[1])


ONE_CYCLE = partial(OneCycleLR, max_lr=0.1)
LIMITS: list[dict[str, Any]] = [
    {"max_epochs": 2},
    {"max_epochs": 3, "accumulate_grad_batches": 3},
    {"max_epochs": 3, "limit_train_batches": 2},
    {"max_epochs": 2, "limit_train_batches": 0.5},
    {"max_epochs": -1, "max_steps": 7},
    {"max_epochs": 9, "max_steps": 7},
    {"max_epochs": 5, "callbacks": [GradientAccumulationScheduler({0: 2, 2: 4})]},
    {"max_epochs": 3, "overfit_batches": 1},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limits", LIMITS)
def test_a_schedule_per_batch_ends_with_training(limits: dict[str, Any]) -> None:
    """Counted by Lightning as it trains: as many steps of the schedule as of the optimizer, and its whole cycle."""
    model = _Model(ONE_CYCLE)
    trainer = _fit(model, **limits)
    schedule: Any = model.lr_schedulers()
    assert schedule.total_steps == trainer.global_step == schedule.last_epoch
    assert max(model.rates) == pytest.approx(0.1, rel=0.3)
    length = training_length(trainer)
    assert length is not None
    assert (length.steps, length.epochs) == (trainer.global_step, trainer.fit_loop.epoch_progress.total.started)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "interval", "steps"),
    [
        (ONE_CYCLE, "auto", 10),
        (lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=10), "auto", 10),
        (partial(CyclicLR, base_lr=0.01, max_lr=0.1), "auto", 10),
        (ONE_CYCLE, "epoch", 2),
        (partial(OneCycleLR, max_lr=0.1, epochs=2), "auto", 10),
        (partial(OneCycleLR, max_lr=0.1, steps_per_epoch=5), "auto", 10),
        (partial(CosineAnnealingLR, T_max=10), "step", 10),
        (partial(CosineAnnealingLR, T_max=2), "auto", 2),
        (WarmupCosine, "auto", 2),
        (WarmupCosine, "step", 10),
        (ReduceLROnPlateau, "auto", 2),
    ],
)
def test_a_schedule_is_stepped_as_often_as_its_kind_means(make: Any, interval: str, steps: int) -> None:
    model = _Model(make, interval)
    _fit(model, max_epochs=2)
    schedule: Any = model.lr_schedulers()
    assert schedule.last_epoch == steps


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("epochs", "warmup"), [(12, 5), (4, 2), (1, 0)])
def test_warm_up_and_fall_scale_with_the_epochs_of_training(epochs: int, warmup: int) -> None:
    """Against the formula, epoch by epoch; the warm-up is at most half."""
    model = _Model(WarmupCosine)
    _fit(model, max_epochs=epochs, limit_val_batches=0)
    of_epochs = model.rates[::BATCHES]
    for epoch, rate in enumerate(of_epochs):
        fallen = (epoch - warmup) / (epochs - warmup)
        share = (epoch + 1) / (warmup + 1) if epoch < warmup else (1 + math.cos(math.pi * fallen)) / 2
        assert rate == pytest.approx(0.5 * share), epoch
    assert model.optimizers().param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")
def test_a_warm_up_can_be_stepped_per_batch() -> None:
    model = _Model(partial(WarmupCosine, warmup_epochs=2), "step")
    _fit(model, max_epochs=6, limit_val_batches=0)
    assert model.rates[BATCHES] == pytest.approx(0.5 * 2 / 3), "as of whole epochs"
    assert model.rates[:10] == sorted(model.rates[:10])
    assert model.rates[10:] == sorted(model.rates[10:], reverse=True)
    assert len(set(model.rates)) == 6 * BATCHES


@pytest.mark.filterwarnings("ignore")
def test_epochs_that_are_given_stay_epochs_where_each_step_counts() -> None:
    stepped, of_epochs = (
        _Model(partial(WarmupCosine, max_epochs=8), "step"),
        _Model(partial(WarmupCosine, max_epochs=8)),
    )
    _fit(stepped, max_epochs=8, limit_val_batches=0)
    _fit(of_epochs, max_epochs=8, limit_val_batches=0)
    assert stepped.rates[::BATCHES] == pytest.approx(of_epochs.rates[::BATCHES])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("every", "steps"), [(1, 4), (2, 2)])
def test_a_plateau_is_looked_for_after_each_validation(every: int, steps: int) -> None:
    model = _Model(partial(ReduceLROnPlateau, patience=0, threshold=10, factor=0.1))
    _fit(model, max_epochs=4, check_val_every_n_epoch=every)
    schedule: Any = model.lr_schedulers()
    assert schedule.last_epoch == steps


@pytest.mark.filterwarnings("ignore")
def test_a_plateau_can_wait_for_a_validation_that_is_no_epochs() -> None:
    model = _Model(ReduceLROnPlateau)
    _fit(model, max_epochs=4, check_val_every_n_epoch=None, val_check_interval=7)
    schedule: Any = model.lr_schedulers()
    assert schedule.last_epoch == 3, "not after the first epoch, which had no validation"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "interval", "limits", "said"),
    [
        (
            partial(OneCycleLR, max_lr=0.1, total_steps=4),
            "auto",
            {"max_epochs": 2},
            "is for 4 steps, training has 10; w",
        ),
        (
            ONE_CYCLE,
            "auto",
            {"max_epochs": -1, "max_time": "00:00:01:00"},
            "as long as training, of which no end is known",
        ),
        (
            WarmupCosine,
            "auto",
            {"max_epochs": -1, "max_time": "00:00:01:00"},
            "as long as training, of which no end is known",
        ),
        (partial(CosineAnnealingLR, T_max=0), "auto", {"max_epochs": 2}, "T_max: expected a number above 0, got 0"),
        (ReduceLROnPlateau, "step", {"max_epochs": 2}, "--model.lr_scheduler_interval step: ReduceLROnPlateau"),
        (ReduceLROnPlateau, "auto", {"max_epochs": 2, "limit_val_batches": 0}, "ReduceLROnPlateau needs validation"),
    ],
)
def test_a_schedule_that_does_not_fit_training_is_refused_before_the_first_step(
    make: Any, interval: str, limits: dict[str, Any], said: str
) -> None:
    model = _Model(make, interval)
    with pytest.raises(ConfigError, match=said):
        _fit(model, **limits)
    assert model.rates == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("given", "advised", "said"),
    [
        (
            partial(WarmupCosine, max_epochs=60),
            partial(WarmupCosine, max_epochs=None),
            "is for 60 epochs, training has 4",
        ),
        (
            partial(CosineAnnealingLR, T_max=7),
            partial(CosineAnnealingLR, T_max=4),
            "7 epochs, training has 4; --model.l",
        ),
        (
            partial(OneCycleLR, max_lr=1, total_steps=30),
            partial(OneCycleLR, max_lr=1, total_steps=None),
            "30 steps, tra",
        ),
    ],
)
def test_a_schedule_of_another_length_is_told_and_the_advice_fits(
    given: Any, advised: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def told(make: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="lightning.pytorch"):  # other tests in this process may silence it
            _fit(_Model(make), max_epochs=4, limit_val_batches=0)
        return "".join(record.message for record in caplog.records if "schedule" in record.message)

    assert said in told(given)
    assert told(advised) == ""


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[..., tuple[_Model, Path]]:
    def train(make: Any, interval: str = "auto", **limits: Any) -> tuple[_Model, Path]:
        """Train, and keep a checkpoint of the moment after the third step."""

        class Keep(Callback):
            def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
                if trainer.global_step == 3:
                    trainer.save_checkpoint(tmp_path / "kept.ckpt")

        model = _Model(make, interval)
        _fit(model, callbacks=[Keep()], **limits)
        return model, tmp_path / "kept.ckpt"

    return train


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "interval", "limits"),
    [
        (ONE_CYCLE, "auto", {}),
        (ONE_CYCLE, "auto", {"accumulate_grad_batches": 2}),
        (partial(CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=4), "auto", {"accumulate_grad_batches": 2}),
        (WarmupCosine, "auto", {"accumulate_grad_batches": 2}),
        (WarmupCosine, "step", {}),
        (WarmupCosine, "step", {"accumulate_grad_batches": 2}),
        (partial(CosineAnnealingLR, T_max=10), "step", {}),
    ],
)
def test_a_schedule_that_goes_on_has_the_rates_it_would_have_had(
    make: Any, interval: str, limits: dict[str, Any], stopped: Callable[..., tuple[_Model, Path]]
) -> None:
    whole, path = stopped(make, interval, max_epochs=4, **limits)
    rest = _Model(make, interval)
    _fit(rest, ckpt=path, max_epochs=4, **limits)
    assert 0 < len(rest.rates) < len(whole.rates)
    assert rest.rates == whole.rates[-len(rest.rates) :]


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_goes_on_longer_has_the_rates_of_the_longer_one(
    stopped: Callable[..., tuple[_Model, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    _, path = stopped(WarmupCosine, max_epochs=4)
    longer, rest = _Model(WarmupCosine), _Model(WarmupCosine)
    _fit(longer, max_epochs=8)
    _fit(rest, ckpt=path, max_epochs=8)
    assert rest.rates == longer.rates[-len(rest.rates) :]
    state = torch.load(path, weights_only=True)["lr_schedulers"][0]
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        check_resumed_schedule(rest.lr_schedulers(), state)
    assert "schedule was for 4 epochs, and is for 8 from here on" in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_one_cycle_does_not_go_on_with_another_length(stopped: Callable[..., tuple[_Model, Path]]) -> None:
    _, path = stopped(ONE_CYCLE, max_epochs=4)
    longer = _Model(ONE_CYCLE)
    _fit(longer, max_epochs=8)
    state = torch.load(path, weights_only=True)["lr_schedulers"][0]
    with pytest.raises(ConfigError, match="can be resumed only for the 20 steps it began with, .* make 40: give"):
        check_resumed_schedule(longer.lr_schedulers(), state)
    again = _Model(ONE_CYCLE)
    _fit(again, max_epochs=4)
    check_resumed_schedule(again.lr_schedulers(), state)  # the advice
