"""Compare how a run's clips were divided when it was trained with how they are divided now; it divides nothing."""

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
    """Refuse to train on with other clips: what is gone or new moves clips from one side to another.

    Clips of the same names are the same only if their files are; a split that keeps no hashes does not tell.

    Args:
        kept: From `read_kept_split`; nothing is compared where it is empty.
        now: The split of now, in the same form.
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
                f"{folder}: training goes on only with the clips that it began with, but of its {side} clips "
                f"{' and '.join(changes)}; bring back the data as it was, or start anew without --ckpt_path"
            )


def keeps_contents(split: Mapping[str, Any]) -> bool:
    """True where a split says what the files of its clips held; those of older versions do not."""
    return isinstance(split.get(CONTENTS), Mapping)


def _changed(clips: Iterable[str], kept: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """Choose the clips whose files are not the same, or can be read only then or only now."""
    before, after = kept[CONTENTS], now[CONTENTS]
    return {clip for clip in clips if before.get(clip, "") != after.get(clip, "")}


def require_unseen(
    kept: Mapping[str, Any], clips: Iterable[str], *, part: str, folder: Path, can_divide: bool = False
) -> None:
    """Refuse to measure a network on clips that it was trained on.

    Args:
        kept: From `read_kept_split`; nothing is compared where it is empty.
        clips: The ids of those that it is to be measured on.
        part: Which they are: `validation` or `test`.
        folder: The run folder of the training, to be named.
        can_divide: Whether there is an option by which the clips can be divided anew.

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
