"""Build learning rate schedules that are as long as the training, and check their settings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset

from vidact.core.errors import ConfigError

MakeSchedule = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
Interval = Literal["auto", "epoch", "step"]
SETTING = "--model.lr_scheduler"
PER_STEP = (OneCycleLR, CyclicLR)  # by their definition (Smith 2017)
MONITOR = "val/loss"


@dataclass(frozen=True)
class Length:
    """How long training is.

    Attributes:
        epochs: With a step in them; the last may be cut.
        steps: Of the optimizer.
        steps_per_epoch: In the first epoch.
    """

    epochs: int
    steps: int
    steps_per_epoch: int


UNKNOWN = Length(100, 1000, 10)  # used to check settings when there is no trainer yet


class WarmupCosine(LambdaLR):
    """Rises linearly over the first epochs, falls to 0 along half a cosine (Loshchilov and Hutter 2017), stays there.

    Args:
        optimizer: Whose rate it is.
        max_epochs: When it is to reach 0; None for the end of training, of which `fit` tells it.
        warmup_epochs: How many epochs it takes to rise; the first of them has 1 / (`warmup_epochs` + 1) of the rate. 0
            begins with the whole rate. Where `max_epochs` is None, at most half of the epochs.
        steps_per_epoch: How often it is stepped in an epoch; `fit` tells it.

    Raises:
        ConfigError: no epoch is left to fall, or its length is not known.
    """

    def __init__(
        self, optimizer: Optimizer, max_epochs: int | None = None, warmup_epochs: int = 5, steps_per_epoch: int = 1
    ) -> None:
        if max_epochs is None:
            raise ConfigError(f"{SETTING}: WarmupCosine needs max_epochs where `fit` does not tell it")
        if not 0 <= warmup_epochs < max_epochs:
            raise ConfigError(
                f"{SETTING}: expected 0 <= warmup_epochs < max_epochs, got {warmup_epochs} and {max_epochs}; without "
                "max_epochs (null), both fit the training"
            )
        self.max_epochs, self.warmup_epochs, self.steps_per_epoch = max_epochs, warmup_epochs, steps_per_epoch
        super().__init__(optimizer, lambda step: self._share(step))  # torch keeps a function out of checkpoints

    def _share(self, step: int) -> float:
        epoch = step / self.steps_per_epoch
        if epoch < self.warmup_epochs:
            return (epoch + 1) / (self.warmup_epochs + 1)
        done = min((epoch - self.warmup_epochs) / (self.max_epochs - self.warmup_epochs), 1.0)
        return (1 + math.cos(math.pi * done)) / 2

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where training has stopped, with the length that training has now."""
        own = {name: getattr(self, name) for name in ("max_epochs", "warmup_epochs", "steps_per_epoch")}
        super().load_state_dict({"lr_lambdas": [None] * len(self.lr_lambdas), **state_dict, **own})
        self._last_lr = [base * self._share(self.last_epoch) for base in self.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def build_schedule(make: MakeSchedule, optimizer: Optimizer, *, interval: Interval, trainer: Trainer | None) -> Any:
    """Build a schedule as Lightning expects it: with its interval, and as long as training if its settings do not say.

    Args:
        make: As the config has it.
        optimizer: Whose rate it is.
        interval: `auto` for a step per batch for OneCycleLR and CyclicLR, else one per epoch.
        trainer: Tells how long training is; None to check the settings alone.

    Raises:
        ConfigError: its settings are refused, or do not fit training.
    """
    kind, given = _kind(make)
    unit = interval if interval != "auto" else "step" if kind is not None and issubclass(kind, PER_STEP) else "epoch"
    length = UNKNOWN if trainer is None or _num_batches(trainer) == 0 else training_length(trainer)
    settings = _missing(kind, given, length, unit)
    try:
        schedule = make(optimizer, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{SETTING}: {error}") from error
    if interval == "auto" and isinstance(schedule, PER_STEP):  # made by a function that does not tell its kind
        unit = "step"
    if isinstance(schedule, ReduceLROnPlateau):
        return _on_plateau(schedule, unit, trainer)
    if length not in (None, UNKNOWN):
        _check_length(schedule, length, unit)
    return {"scheduler": schedule, "interval": unit}


def _kind(make: Any) -> tuple[type | None, dict[str, Any]]:
    """Give the class and the settings in a `functools.partial`, as the parser makes it."""
    if isinstance(make, type):
        return make, {}
    if not isinstance(make, partial):
        return None, {}
    kinds = [one for one in (make.func, *make.args) if isinstance(one, type)]
    return (kinds[0] if kinds else None), dict(make.keywords)


def _missing(kind: type | None, given: dict[str, Any], length: Length | None, unit: str) -> dict[str, Any]:
    """Compute the settings that depend on training: the length if it is not given, and the steps of an epoch."""
    warms_up = kind is not None and issubclass(kind, WarmupCosine)
    cycles = kind is not None and issubclass(kind, OneCycleLR) and given.get("total_steps") is None
    fixed = not cycles and given.get("max_epochs") is not None
    if not (warms_up or cycles) or (fixed and unit == "epoch"):
        return {}
    if length is None:
        raise ConfigError(
            f"{SETTING}: this schedule is as long as training, of which no end is known: give --trainer.max_epochs or "
            "max_steps"
        )
    per_epoch = length.steps_per_epoch if unit == "step" else 1
    if warms_up and fixed:
        return {"steps_per_epoch": per_epoch}
    if warms_up:
        warmup = min(given.get("warmup_epochs", 5), length.epochs // 2)
        return {"max_epochs": length.epochs, "warmup_epochs": warmup, "steps_per_epoch": per_epoch}
    if given.get("epochs") is None and given.get("steps_per_epoch") is None:
        return {"total_steps": length.steps if unit == "step" else length.epochs}
    own = {"epochs": length.epochs, "steps_per_epoch": per_epoch}
    return own | {name: given[name] for name in own if given.get(name) is not None}


def _on_plateau(schedule: ReduceLROnPlateau, unit: str, trainer: Trainer | None) -> dict[str, Any]:
    """Step after each validation, when there is a new value of the metric."""
    if unit == "step":
        raise ConfigError(f"{SETTING}_interval step: ReduceLROnPlateau steps once per validation; leave it out")
    if trainer is not None and trainer.limit_val_batches == 0:
        raise ConfigError(f"{SETTING}: ReduceLROnPlateau needs validation, and --trainer.limit_val_batches is 0")
    every = None if trainer is None else trainer.check_val_every_n_epoch
    return {
        "scheduler": schedule,
        "monitor": getattr(schedule, "monitor", MONITOR),
        "frequency": every or 1,
        "strict": every is not None,  # else an epoch may end before the first validation
    }


def training_length(trainer: Trainer) -> Length | None:
    """Count the epochs and steps of the whole training; None if no limit of either is known.

    Lightning's own `estimated_stepping_batches` begins an epoch's iterator before a checkpoint has said which.
    """
    batches = _num_batches(trainer)
    max_epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs or 0
    max_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if not batches or math.inf == max_epochs == max_steps:
        return None
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it by name
    gathering = next((one for one in callbacks if isinstance(one, GradientAccumulationScheduler)), None)

    def steps_of(epoch: int) -> int:
        gathered = gathering.get_accumulate_grad_batches(epoch) if gathering else trainer.accumulate_grad_batches
        return math.ceil(batches / gathered)

    epochs = steps = 0
    last_change = max(gathering.scheduling) if gathering else 0
    while epochs < min(max_epochs, last_change) and steps < max_steps:
        steps, epochs = steps + steps_of(epochs), epochs + 1
    each = steps_of(epochs)
    more = math.ceil(min(max_epochs - epochs, (max_steps - steps) / each))
    epochs, steps = epochs + more, int(min(steps + more * each, max_steps))
    return Length(max(epochs, 1), max(steps, 1), steps_of(0))


def _num_batches(trainer: Trainer) -> int | None:
    """Count an epoch's batches as Lightning will; None if unknown."""
    source = trainer.fit_loop._data_source
    loader: Any = None if source.instance is None else source.dataloader()
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    limit = trainer.limit_train_batches
    return min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)


def _check_length(schedule: Any, length: Length, unit: str) -> None:
    """Refuse a schedule of length 0, or OneCycleLR that ends before training; tell of any other difference."""
    found = next((name for name in ("max_epochs", "T_max", "total_steps") if hasattr(schedule, name)), None)
    if found is None:
        return
    own, what = getattr(schedule, found), "epochs" if unit == "epoch" or found == "max_epochs" else "steps"
    training = length.epochs if what == "epochs" else length.steps
    if own < 1:
        raise ConfigError(f"{SETTING}.init_args.{found}: expected a number above 0, got {own}")
    if own == training:
        return
    fits = f"{SETTING}.init_args.{found} {training if found == 'T_max' else 'null'} fits"
    if isinstance(schedule, OneCycleLR):
        fits = "without total_steps, epochs and steps_per_epoch (null) it fits"
    told = f"{SETTING}: the learning rate's schedule is for {own} {what}, training has {training}; {fits}"
    if isinstance(schedule, OneCycleLR) and own < training:
        raise ConfigError(told)
    rank_zero_info(told)


def check_resumed_schedule(schedule: Any, before: Mapping[str, Any] | None) -> None:
    """Compare a schedule's length with that in the checkpoint that training is resumed from.

    Raises:
        ConfigError: it cannot continue with another length.
    """
    if not before or not isinstance(schedule, WarmupCosine | OneCycleLR):
        return
    name = "total_steps" if isinstance(schedule, OneCycleLR) else "max_epochs"
    was, now = before.get(name, getattr(schedule, name)), getattr(schedule, name)
    what = name.partition("_")[2]
    if was != now and isinstance(schedule, OneCycleLR):
        raise ConfigError(
            f"{SETTING}: OneCycleLR can be resumed only for the {was} {what} it began with, and these settings make "
            f"{now}: give the --trainer.max_epochs (or max_steps) it began with"
        )
    if was != now:
        rank_zero_info(f"the learning rate's schedule was for {was} {what}, and is for {now} from here on")
