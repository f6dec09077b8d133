"""Choose the clips that a run is evaluated or audited on, with their masks and their copies without a confounder.

Clips that a run was trained or selected on are no evidence: clips of another data set that share their name, source or
film with them are skipped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.core.clips import as_float, height_and_width
from vidact.core.errors import ConfigError, DataError, VidactError
from vidact.core.progress import progress_bar
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datasets.clip_frames import why_unusable
from vidact.data.datasets.index import Clip, choose_classes, index_clips, named_clip
from vidact.data.loading.masks import MaskFolder, find_masks
from vidact.data.loading.windows import Window, list_windows
from vidact.data.preparation import divide
from vidact.data.splits.kept_out import share_footage
from vidact.data.synthetic.files import WITHOUT_CONFOUNDER
from vidact.data.video.reading import read_frames
from vidact.runs.clips.choice import Choice
from vidact.runs.run import Run
from vidact.runs.splits import read_kept_split

LEARNED_FROM = ("training", "validation")


@dataclass(frozen=True)
class ChosenClips:
    """The clips that a run is evaluated or audited on, a window in the middle of each.

    Attributes:
        folder: The data set.
        windows: Labelled with the run's class numbers.
        masks: Where the masks are, if there are any.
        left_out: A line for each clip that is skipped.
        notes: Further remarks on the choice.
    """

    folder: Path
    windows: tuple[Window, ...]
    masks: MaskFolder | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that have clips, in the order of their numbers."""
        clips = sorted({(window.clip.label, window.clip.class_name) for window in self.windows})
        return tuple(name for _, name in clips)

    @cached_property
    def mask_kinds(self) -> tuple[str, ...]:
        """The kinds of masks that any of the clips has."""
        clip_ids = [window.clip.clip_id for window in self.windows]
        return tuple(dict.fromkeys(kind for clip_id in clip_ids for kind in self.kinds_of(clip_id)))

    def sources_of(self, kind: str | None = None) -> list[str]:
        """Name the source of each clip, or of each that has masks of a kind."""
        clips = [window.clip for window in self.windows]
        return [clip.source for clip in clips if kind is None or kind in self.kinds_of(clip.clip_id)]

    def kinds_of(self, clip_id: str) -> tuple[str, ...]:
        """Name the kinds of masks that a clip has."""
        return self.masks.kinds(clip_id) if self.masks is not None else ()

    def read_mask(self, window: Window, kind: str, *, size: tuple[int, int]) -> Bool[Tensor, "T H W"] | None:
        """Read the mask of a window's frames; None where its clip has none of the kind.

        Raises:
            DataError: a mask that is damaged, or does not fit the clip.
        """
        clip_id = window.clip.clip_id
        if self.masks is None or kind not in self.kinds_of(clip_id):
            return None
        frames = window.clip_frames
        return self.masks.read(clip_id, window.frame_numbers, clip_frames=frames, size=size, kind=kind)

    def without_confounder(self, window: Window) -> Path | None:
        """Find the copy of a clip without its confounder; None where there is none."""
        base = self.folder if self.folder.is_dir() else self.folder.parent
        path = base / WITHOUT_CONFOUNDER / window.clip.class_name / window.clip.path.name
        return path if path.exists() else None


def choose_clips(run: Run, choice: Choice, *, seed: int = 0) -> ChosenClips:
    """List the clips to measure a run on; where not all are wanted, they are drawn by `seed`.

    Raises:
        DataError: the data set was moved, shares no class with the run, or has no usable clip.
        ConfigError: fewer clips than classes are wanted.
    """
    record = read_kept_split(run.folder)
    found = _own_clips(run, choice, record) if choice.root is None else _other_clips(run, Path(choice.root), record)
    folder, clips, gone, notes = found
    with progress_bar("measuring clips") as progress:
        decoder = run.data_settings.get("decoder", "decord")
        paths = [clip.path for clip in clips]
        inspections = inspect_clips(paths, root=folder, decoder=decoder, progress=progress)
    reasons = {clip: why_unusable(clip, inspections[clip.path]) for clip in clips}
    left_out = [*gone, *(f"{clip.clip_id}: {reason}" for clip, reason in reasons.items() if reason)]
    usable = _draw([clip for clip in clips if not reasons[clip]], choice, seed)
    if not usable:
        raise DataError(f"{folder}: no clip is left to evaluate: {'; '.join([*notes, *left_out[:3]]) or choice.part}")
    settings = run.data_settings
    order: dict[str, Any] = {name: settings[name] for name in ("frame_order",) if name in settings}  # as it was trained
    windows = list_windows(
        usable,
        {path: found.info for path, found in inspections.items() if found.info},
        num_frames=settings["num_frames"],
        stride=settings["stride"],
        num_windows=1,  # in the middle
        sha1s={path: found.sha1 for path, found in inspections.items()},
        fps=settings.get("fps") if choice.root is None else _common_rate(run),
        **order,
    )
    masks, lines = _choose_masks(run, choice, folder)
    return ChosenClips(folder, tuple(windows), masks, tuple(left_out), (*notes, *lines))


def _common_rate(run: Run) -> float | None:
    """Name the frames per second that all clips of a run's training had; None where they differ or are unknown."""
    return None if run.frame_rates is None or run.frame_rates.differ else run.frame_rates.usual


def _choose_masks(run: Run, choice: Choice, folder: Path) -> tuple[MaskFolder | None, list[str]]:
    """Open the masks that are named, else those that the run was trained with (for its own data), else those found."""
    lines = []
    place = choice.masks_folder
    own = run.data_settings.get("masks")
    if place is None and choice.root is None and isinstance(own, str):
        if Path(own).is_dir():
            place = own
        else:
            lines.append("the run's folder of masks (--data.masks) is not there any more; --masks_folder names another")
    found = find_masks(folder) if place is None else Path(place)
    return (MaskFolder(found) if found else None), lines


_Found = tuple[Path, list[Clip], list[str], list[str]]  # data set, clips, lines of clips that are gone, notes


def _own_clips(run: Run, choice: Choice, record: Mapping[str, Any]) -> _Found:
    """List the clips of a part of the run's own data, as the run recorded it."""
    data = run.build_data()
    if data.class_names != run.class_names:
        raise DataError(f"the network knows the classes {list(run.class_names)}, the data has {list(data.class_names)}")
    data.prepare_data()
    clips = index_clips(data.folder, classes=run.class_names, follow_links=data.follow_links)
    if record:
        wanted = set(record.get(choice.part, ()))
        gone = sorted(wanted - {clip.clip_id for clip in clips})
        lines = [f"{clip_id}: is in the run's split, and not in the data set any more" for clip_id in gone]
        return data.folder, [clip for clip in clips if clip.clip_id in wanted], lines, []
    note = "the run recorded no split (split.json); its clips were divided again, by its settings"
    return data.folder, list(divide(clips, data.folder, settings=data.split_settings).sides[choice.part]), [], [note]


def _other_clips(run: Run, root: Path, record: Mapping[str, Any]) -> _Found:
    """List the clips of another data set that the run cannot have seen."""
    there = choose_classes(root, None)
    common = [name for name in run.class_names if name in there]
    if not common:
        raise DataError(f"{root}: has none of the classes that the network knows ({', '.join(run.class_names)})")
    notes = []
    for who, names in (("the data set", there), ("the network", run.class_names)):
        if lacking := [name for name in names if name not in common]:
            notes.append(f"only {who} knows {len(lacking)} classes, which are not evaluated: {', '.join(lacking)}")
    follow = bool(run.data_settings.get("follow_links", False))
    clips = [
        replace(clip, label=run.class_names.index(clip.class_name))
        for clip in index_clips(root, classes=common, follow_links=follow)
    ]
    if not record:
        notes.append("the run recorded no split (split.json), so it is unknown whether it learned from these clips")
        return root, clips, [], notes
    known = set(share_footage(clips, _learned_from(run, record)))
    if known:
        notes.append(
            f"{len(known)} of {len(clips)} clips are skipped: their name, source or film is among the clips that the "
            "run was trained or selected on"
        )
    return root, [clip for clip in clips if clip not in known], [], notes


def _learned_from(run: Run, record: Mapping[str, Any]) -> list[Clip]:
    """List the clips of training and validation, from the data set or, where that is gone, from their names."""
    try:
        own = {clip.clip_id: clip for clip in index_clips(run.build_data().folder, classes=run.class_names)}
    except VidactError:
        own = {}
    return [own.get(clip_id) or named_clip(clip_id) for side in LEARNED_FROM for clip_id in record.get(side, ())]


def _draw(clips: Sequence[Clip], choice: Choice, seed: int) -> list[Clip]:
    """Draw equally many clips of each class; which of two clips comes first does not depend on the other clips.

    Raises:
        ConfigError: fewer clips than classes are wanted.
    """
    if choice.num_clips is None or not clips:
        return list(clips)
    labels = sorted({clip.label for clip in clips})
    each = choice.num_clips // len(labels)
    if not each:
        raise ConfigError(
            f"--num_clips {choice.num_clips}: equally many of each class are drawn, and there are {len(labels)} "
            f"classes; expected {len(labels)} or more, or null for all"
        )
    drawn: set[Clip] = set()
    for label in labels:
        own = [clip for clip in clips if clip.label == label]
        drawn |= set(sorted(own, key=lambda clip: draw_key(seed, clip.clip_id))[:each])
    return [clip for clip in clips if clip in drawn]


def draw_key(seed: int, *words: str) -> bytes:
    """Compute a pseudo-random sort key from a seed and words."""
    # The same on every machine and in every process, unlike hash().
    return hashlib.sha256(" ".join([str(seed), *words]).encode("utf-8", "surrogateescape")).digest()


def seeded_generator(seed: int, *words: str) -> torch.Generator:
    """Seed a random generator from a seed and words."""
    # 48 bits: manual_seed takes no more than 64, with a sign.
    return torch.Generator().manual_seed(int.from_bytes(draw_key(seed, *words)[:6], "big"))


def read_pixels(run: Run, window: Window, *, path: Path | None = None) -> Float[Tensor, "C T H W"]:
    """Read the frames of a window as a run's network sees them.

    Args:
        run: The run.
        window: Which frames.
        path: Another file with the same frames, such as the clip without its confounder.

    Raises:
        DataError: they cannot be read.
    """
    data = run.data_settings
    decoder = window.decoder(data.get("decoder", "decord"))
    size = height_and_width(data["size"])
    frames = read_frames(path or window.clip.path, window.frame_numbers, size=size, gray=data["gray"], decoder=decoder)
    return as_float(frames[None])[0]
