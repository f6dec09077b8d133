"""What several verbs share: Lightning's trainer for work without training."""

from typing import TYPE_CHECKING

from vidact.core.terminal import guard_warnings

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def build_trainer(*, accelerator: str, devices: str, num_nodes: int, strategy: str) -> "Trainer":
    """Build Lightning's trainer, which shares work out among devices and machines."""
    import logging
    import warnings

    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import RichProgressBar

    from vidact.core.errors import ConfigError

    guard_warnings()
    _check_processes(accelerator, devices)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # what it says of devices helps nobody here
    for message in ("`isinstance\\(treespec, LeafSpec", ".*does not have many workers"):
        warnings.filterwarnings("ignore", message=message)
    try:
        return Trainer(
            accelerator=accelerator,
            devices=int(devices) if devices.isdigit() else devices,
            num_nodes=num_nodes,
            strategy=strategy,
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
