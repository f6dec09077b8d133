"""Build Lightning's trainer, which shares the work of `explain` and `evaluate` out among devices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidact.core.terminal import guard_warnings

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class TrainerSettings:
    """On which devices and machines the work is done.

    Attributes:
        accelerator: As Lightning has it: auto, cpu, gpu, …
        devices: How many, or which; videos or clips are shared out among them.
        num_nodes: How many machines.
        strategy: As Lightning has it: auto, ddp, …
    """

    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"


def build_trainer(settings: TrainerSettings) -> "Trainer":
    """Build Lightning's trainer, which shares work out among devices and machines.

    Raises:
        ConfigError: there are no such devices, or fewer cores than processes.
    """
    import logging
    import warnings

    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import RichProgressBar

    from vidact.core.errors import ConfigError

    guard_warnings()
    _check_processes(settings.accelerator, settings.devices)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # what it says of devices helps nobody here
    for message in ("`isinstance\\(treespec, LeafSpec", ".*does not have many workers"):
        warnings.filterwarnings("ignore", message=message)
    try:
        return Trainer(
            accelerator=settings.accelerator,
            devices=int(settings.devices) if settings.devices.isdigit() else settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[RichProgressBar()],
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError(f"--accelerator, --devices or --strategy: {' '.join(str(error).split())}") from error


def _check_processes(accelerator: str, devices: str) -> None:
    """Make sure that there is a core for each process: on a CPU Lightning starts as many as it is told."""
    import os

    import torch

    from vidact.core.errors import ConfigError

    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    cores = os.cpu_count() or 1
    if on_cpu and devices.isdigit() and int(devices) > cores:
        raise ConfigError(f"--devices {devices}: this machine has {cores} cores; ask for as many processes or fewer")
