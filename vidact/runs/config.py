"""Compare two configs setting by setting, and bring class paths of older versions up to date."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# May differ between two configs of the same training: where the clips are, speed, output, and how long it trains.
FREE = (
    *("ckpt_path", "weights_only", "config", "report", "relevance", "faithfulness", "audit", "trainer"),
    "model.top_k",
    *("data.root", "data.splits_folder", "data.follow_links", "data.num_workers", "data.cache_gigabytes", "data.masks"),
    "data.datapoint_names",
)
FIXED_OF_TRAINER = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "overfit_batches", "callbacks", "sync_batchnorm"),
)
# Classes that configs of vidact 0.1 name, by the modules in which they were then.
_MOVED = {
    "vidact.schedules": "vidact.training.schedules",
    "vidact.callbacks.averaging": "vidact.training.callbacks.averaging",
}
_OLD_CLASS = re.compile(rf"(?<![\w./])({'|'.join(map(re.escape, _MOVED))})(?=\.[A-Z])")
MAX_LISTED = 3
MISSING = "not set"


def with_current_class_paths(text: str) -> str:
    """Replace class paths of older versions in a config's text, or in a word of the command line, by today's."""
    return _OLD_CLASS.sub(lambda found: _MOVED[found[1]], text)


@dataclass(frozen=True)
class Difference:
    """A setting that differs."""

    name: str
    theirs: Any
    mine: Any


def differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], usual: Mapping[str, Any] | None = None
) -> list[Difference]:
    """List the settings that change the training and differ between two configs.

    Args:
        theirs: One config.
        mine: The other.
        usual: Value of a setting that `theirs` does not have.
    """
    one, other, default = (dict(_flat(config)) for config in (theirs, mine, usual or {}))
    found = (
        Difference(name, one.get(name, default.get(name, MISSING)), other.get(name, MISSING))
        for name in {**other, **one}
        if not _is_free(name)
    )
    return [difference for difference in found if difference.theirs != difference.mine]


def describe_differences(found: list[Difference], *, there: str, here: str) -> str:
    """Write the first few differences as text, and how many more there are."""
    shown = ", ".join(f"--{one.name} is {one.theirs} {there} and {one.mine} {here}" for one in found[:MAX_LISTED])
    return shown + (f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else "")


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, values


def _is_free(name: str) -> bool:
    if name.startswith("trainer."):
        return name.split(".")[1] not in FIXED_OF_TRAINER
    return any(name == free or name.startswith(f"{free}.") for free in FREE)
