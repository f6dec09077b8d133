"""Read the split that a run was trained with, and refuse to resume or measure it with clips that do not fit."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidact.core.errors import ConfigError
from vidact.runs.folder import RunFolder

CONTENTS = "sha1"  # from the ids of the clips that train and validate to the hashes of their files
TRAINING, VALIDATION, TEST = "training", "validation", "test"
MAX_NAMED = 3


def read_kept_split(folder: Path | None) -> Mapping[str, Any]:
    """Read the split that a run kept; empty if it kept none that can be read."""
    path = RunFolder(folder).split if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def require_same_clips(kept: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path) -> None:
    """Refuse to resume training with other clips than before: clips that are gone or new change all sides of the split.

    Clips of the same name count as the same only if their files do; splits of older versions have no hashes to compare.

    Args:
        kept: From `read_kept_split`; nothing is compared where it is empty.
        now: The present split, in the same form.
        folder: The run folder, to be named.

    Raises:
        ConfigError: clips to train on or to validate with differ.
    """
    known = keeps_contents(kept) and keeps_contents(now)
    for side in (TRAINING, VALIDATION):
        if side not in kept:
            continue
        before, after = set(kept[side]), set(now[side])
        changes = [
            f"{len(clips)} {what} ({_named(clips)})"
            for what, clips in (
                ("are not there any more", before - after),
                ("are new", after - before),
                ("have other files than then", _changed(before & after, kept, now) if known else set()),
            )
            if clips
        ]
        if changes:
            raise ConfigError(
                f"{folder}: training can be resumed only with the clips that it began with, but of its {side} clips "
                f"{' and '.join(changes)}; bring back the data as it was, or start anew without --ckpt_path"
            )


def keeps_contents(split: Mapping[str, Any]) -> bool:
    """Say whether a split has hashes of its files; those of older versions have none."""
    return isinstance(split.get(CONTENTS), Mapping)


def _changed(clips: Iterable[str], kept: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """List the clips whose files differ, or were readable only then or only now."""
    before, after = kept[CONTENTS], now[CONTENTS]
    return {clip for clip in clips if before.get(clip, "") != after.get(clip, "")}


def require_unseen(
    kept: Mapping[str, Any], clips: Iterable[str], *, part: str, folder: Path, can_divide: bool = False
) -> None:
    """Refuse to measure a network on clips that it was trained on.

    Args:
        kept: From `read_kept_split`; nothing is compared where it is empty.
        clips: Ids of the clips to measure it on.
        part: Their name: `validation` or `test`.
        folder: The run folder of the training, to be named.
        can_divide: Whether the verb has the option --data.split.

    Raises:
        ConfigError: some are the same.
    """
    measured = set(clips)
    if seen := measured & set(kept.get(TRAINING, ())):
        divide = f", or divide by what the training kept: --data.split {RunFolder(folder).split}" if can_divide else ""
        raise ConfigError(
            f"{len(seen)} of the {len(measured)} {part} clips are among those that the network was trained on "
            f"({_named(seen)}), so the data or its split is another one now; bring back what is missing{divide}"
        )


def _named(clips: Iterable[str]) -> str:
    ordered: Sequence[str] = sorted(clips)
    return ", ".join(ordered[:MAX_NAMED]) + (", …" if len(ordered) > MAX_NAMED else "")
