"""Go on with a training that was interrupted: in its own folder, and only as the same training.

It starts nothing and reads no checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vidact.core import ConfigError

CONFIG = "config.yaml"
MAX_LISTED = 3
# What may differ: where the data is, how fast it comes, and how often something is shown.
FREE = {"data.root", "data.num_workers", "data.cache_gigabytes", "data.follow_links", "data.masks"}
# Of the trainer, what changes the numbers of a step.
STEPS = {
    "trainer.precision",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm",
    "trainer.callbacks",
}


def resumed_folder(checkpoint: Path) -> Path | None:
    """Name the run folder that a training goes on in from a checkpoint; None where it begins a new one.

    Only from `<run folder>/checkpoints/last.ckpt`.
    """
    folder = checkpoint.absolute().parent.parent
    own = checkpoint.name == "last.ckpt" and checkpoint.absolute().parent.name == "checkpoints"
    return folder if own and (folder / CONFIG).is_file() else None


def check_same_training(before: str, now: str) -> None:
    """Make sure that a checkpoint is gone on from as it was trained: Lightning would let it overrule the settings.

    Optimizer and schedule are restored from the checkpoint with their rates; other settings of data and network would
    make it another training. How long it is, on which devices, and what it shows may change.

    Args:
        before: The config in the checkpoint, as YAML.
        now: The config of the command line, as YAML.

    Raises:
        ConfigError: names what differs.
    """
    old, new = _flat(yaml.safe_load(before)), _flat(yaml.safe_load(now))
    differing = [key for key in sorted({*old, *new}) if _counts(key) and old.get(key) != new.get(key)]
    if differing:
        listed = differing[:MAX_LISTED]
        shown = "; ".join(f"--{key} is {_say(new, key)} here and {_say(old, key)} there" for key in listed)
        more = f" and {len(differing) - MAX_LISTED} more" if len(differing) > MAX_LISTED else ""
        raise ConfigError(
            f"--ckpt_path: a training goes on as it began, but {shown}{more}; give the same settings (config.yaml in "
            "the run's folder), or leave --ckpt_path out to begin anew"
        )


def _counts(key: str) -> bool:
    if key in FREE:
        return False
    return key == "seed_everything" or key.startswith(("data.", "model.")) or key in STEPS


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _say(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not given"
