"""List, inspect and split the clips of a data set, and report leaks; the data module and `vidact data` use it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vidact.core.errors import ConfigError, DataError
from vidact.core.progress import progress_bar
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datasets.clip_frames import frames_of, why_unusable
from vidact.data.datasets.hmdb51 import FOLDS, TEST
from vidact.data.datasets.index import Clip, choose_classes, index_clips
from vidact.data.datasets.tables import is_table
from vidact.data.splits.files import (
    find_official_folder,
    read_official_flags,
    read_split_file,
    search_official_folder,
)
from vidact.data.splits.guessing import ClipFacts
from vidact.data.splits.kept_out import KeptOut, find_kept_out
from vidact.data.splits.leakage import LeakageReport, measure_leakage
from vidact.data.splits.schemes import GIVEN, VALIDATION_SHARE, make_split
from vidact.data.splits.split import NUM_FOLDS, Split, SplitScheme
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.sampling import Stride, stride_for
from vidact.data.video.similarity import near_duplicates
from vidact.data.video.verdicts import Inspection, VideoInfo

SPLIT_FILE_ENDING = ".json"
AUTO = "auto"
MIN_CLASSES = 2


def choose_class_names(root: Path | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the classes of a run, from a data set or, if `root` is None, the synthetic set; all if None.

    Raises:
        ConfigError: fewer than two.
        DataError: see `index.choose_classes`; or the synthetic set has no such class.
    """
    if classes is not None and len(classes) < MIN_CLASSES:
        raise ConfigError(f"--data.classes needs {MIN_CLASSES} or more, got {classes}; without it, all are used")
    if root is not None:
        return choose_classes(root, classes)
    unknown = sorted(set(classes or ()) - set(CLASS_NAMES))
    if unknown:
        raise DataError(f"the synthetic set has no class {unknown[0]!r}; it has {list(CLASS_NAMES)}")
    return tuple(classes) if classes is not None else CLASS_NAMES


@dataclass(frozen=True)
class SplitSettings:
    """How to split a data set.

    Attributes:
        split: A scheme (see `schemes.make_split`), or the path of a split file, whose name ends with .json. `auto` is
            `folders` or `table` if the data set has one of them, else `source`.
        fold: Number of the test fold, from 1; a split file has its own.
        num_folds: Number of folds of the scheme `kfold`.
        seed: Seed of the draws.
        splits_folder: Folder of official split files; searched in and beside the data set if None.
        use_unused: Add clips that the official split does not use to training.
        validation_share: Share of the training side for validation, see `schemes.make_split`.
    """

    split: str
    fold: int = 1
    num_folds: int = NUM_FOLDS
    seed: int = 0
    splits_folder: Path | None = None
    use_unused: bool = False
    validation_share: float = VALIDATION_SHARE

    def __post_init__(self) -> None:
        schemes = (AUTO, *get_args(SplitScheme))
        if self.split not in schemes and not self.is_file:
            raise ConfigError(
                f"a split is one of {', '.join(schemes)}, or a file *{SPLIT_FILE_ENDING} that `data split` wrote; "
                f"got {self.split!r}"
            )
        if self.is_file and (self.use_unused or self.validation_share != VALIDATION_SHARE):
            raise ConfigError(
                f"{self.split} says which clips train and which validate: use_unused and validation_share are for "
                "`data split`, which writes such files"
            )
        if self.seed < 0:
            raise ConfigError(f"the seed must be at least 0, got {self.seed}")
        if self.fold != 1 and self.split in GIVEN:
            raise ConfigError(
                f"split {self.split!r} has one fold, because the data set names the sides; got fold {self.fold}"
            )
        if not self.is_file and not 1 <= self.fold <= self.most_folds:
            raise ConfigError(f"split {self.split!r} has folds 1 to {self.most_folds}, got fold {self.fold}")

    @property
    def most_folds(self) -> int:
        """Number of folds of the scheme, unless the classes allow fewer."""
        fixed = {"official": len(FOLDS), "kfold": self.num_folds, **dict.fromkeys(GIVEN, 1)}
        return fixed.get(self.split, NUM_FOLDS)

    @property
    def is_file(self) -> bool:
        """True for a split file."""
        return Path(self.split).suffix == SPLIT_FILE_ENDING


def load_clips(
    root: Path, *, classes: Sequence[str] | None = None, follow_links: bool = False, **options: Any
) -> tuple[tuple[Clip, ...], dict[Path, Inspection]]:
    """List a data set's clips, and inspect those that no earlier run has inspected, with a progress bar.

    Args:
        root: The data set, see `index.index_clips`.
        classes: Classes; all if None.
        follow_links: Follow links that lead out of `root`.
        options: Further arguments of `inspection.inspect_clips`.
    """
    clips = index_clips(root, classes=classes, follow_links=follow_links)
    with progress_bar("inspecting clips") as progress:
        return clips, inspect_clips([clip.path for clip in clips], root=root, progress=progress, **options)


def list_unusable(clips: Sequence[Clip], inspections: Mapping[Path, Inspection]) -> tuple[str, ...]:
    """List the clips that cannot be used, one line each with the reason.

    Raises:
        DataError: a class has no clip that can be used.
    """
    reasons = {clip: why_unusable(clip, inspections[clip.path]) for clip in clips}
    lines = {clip: f"{clip.clip_id}: {reason}" for clip, reason in reasons.items() if reason}
    readable = {clip.class_name for clip in clips if clip not in lines}
    for clip, line in lines.items():
        if clip.class_name not in readable:
            raise DataError(f"class {clip.class_name!r}: none of its clips can be read; the first: {line}")
    return tuple(lines.values())


def usable_clips(clips: Sequence[Clip], inspections: Mapping[Path, Inspection]) -> dict[Clip, VideoInfo]:
    """Select the usable clips, each with the content of its file."""
    usable = (clip for clip in clips if not why_unusable(clip, inspections[clip.path]))
    return {clip: info for clip in usable if (info := inspections[clip.path].info)}


def keep_out(clips: Sequence[Clip], root: Path, *, fold: int | None = 1, follow_links: bool = False) -> KeptOut:
    """Find the clips that share a film with the test clips of another data set.

    Args:
        clips: The data set to be split, with unreadable clips.
        root: The other data set, see `index.index_clips`.
        fold: Fold of its official split whose test side is tested on. If None, or if there are no official split files
            in or beside it, all its clips are.
        follow_links: Follow links that lead out of `root`.

    Raises:
        DataError: there is no such data set, its split files have mistakes or name none of its clips for test, or no
            film is shared.
    """
    try:
        tested, part = _tested_clips(root, fold=fold, follow_links=follow_links)
        return find_kept_out(clips, tested, data_set=root.resolve().name, part=part)
    except DataError as error:
        raise DataError(f"--keep_out: {error}".replace("--data.root", "it").replace("--data.fold", "fold")) from error


def _tested_clips(root: Path, *, fold: int | None, follow_links: bool) -> tuple[Sequence[Clip], str]:
    """Select the test clips of a data set, and describe them in words."""
    clips = index_clips(root, follow_links=follow_links)
    folder = search_official_folder(root)
    if fold is not None and folder is None and (own := [clip for clip in clips if clip.side == "test"]):
        return own, "its own test side"
    if fold is None or folder is None:
        return clips, "all its clips"
    names = list(dict.fromkeys(clip.class_name for clip in clips))
    flags = read_official_flags(folder, fold=fold, class_names=names)
    tested = [clip for clip in clips if flags.get(clip.clip_id) == TEST]
    if not tested:
        raise DataError(f"{folder}: official fold {fold} tests on none of the clips of {root}")
    return tested, f"the test side of its official fold {fold}"


def own_scheme(clips: Sequence[Clip], root: Path) -> SplitScheme | None:
    """Return the scheme that takes a data set's own sides; None where it has none."""
    if not any(clip.side for clip in clips):
        return None
    return "table" if is_table(root) else "folders"


def _advise(clips: Sequence[Clip], own: SplitScheme | None, settings: SplitSettings) -> str:
    """Find a scheme that can split the clips, by trying, and phrase it as advice."""
    reason = ""
    schemes: list[SplitScheme] = [*([own] if own else []), "source", "clip"]
    for scheme in schemes:
        fold = settings.fold if settings.fold <= SplitSettings(scheme).most_folds else 1
        try:
            make_split(clips, scheme=scheme, fold=fold, seed=settings.seed, validation_share=settings.validation_share)
        except DataError as error:
            reason = reason or str(error)
            continue
        extra = " --data.fold 1" * (fold != settings.fold) + " --data.use_unused false" * settings.use_unused
        return f"try --data.split {scheme}{extra}"
    return f"no other scheme can split these clips: {reason}"


def divide(clips: Sequence[Clip], root: Path, *, settings: SplitSettings, kept_out: KeptOut | None = None) -> Split:
    """Split clips by a scheme, or as a split file says.

    Args:
        clips: The whole data set, with unreadable clips: the split must not depend on what a machine can read.
        root: The data set; official split files are searched in and beside it.
        settings: The settings.
        kept_out: Clips that may neither train nor validate; split files contain theirs.

    Raises:
        DataError: see `schemes.make_split`, `files.read_split_file` and `files.read_official_flags`; or the data set
            has no such split (with a scheme that can split it).
    """
    if settings.is_file:
        split = read_split_file(Path(settings.split), clips)
        if settings.fold not in {1, split.fold}:
            raise ConfigError(f"{settings.split} holds fold {split.fold}, not {settings.fold}; give another file")
        return split
    own = own_scheme(clips, root)
    scheme: Any = settings.split if settings.split != AUTO else own or "source"  # checked by SplitSettings
    if scheme in GIVEN and scheme != own:
        raise DataError(f"--data.split {scheme}: {root} has no {GIVEN[scheme]}; {_advise(clips, own, settings)}")
    flags = None
    if scheme == "official":
        try:
            folder = settings.splits_folder or find_official_folder(root)
        except DataError as error:
            raise DataError(f"{error}; {_advise(clips, own, settings)}") from None
        names = list(dict.fromkeys(clip.class_name for clip in clips))
        flags = read_official_flags(folder, fold=settings.fold, class_names=names)
    try:
        return make_split(
            clips,
            scheme=scheme,
            fold=settings.fold,
            seed=settings.seed,
            num_folds=settings.num_folds,
            flags=flags,
            use_unused=settings.use_unused,
            validation_share=settings.validation_share,
            kept_out=kept_out,
        )
    except DataError as error:
        if scheme not in GIVEN or kept_out is not None:
            raise
        raise DataError(f"{error}; or {_advise(clips, None, settings)}") from error


def examine(split: Split, inspections: Mapping[Path, Inspection]) -> LeakageReport:
    """Report what leaks from one side of a split to another, from names and inspections."""
    clips = [clip for side in split.sides.values() for clip in side]
    found = {clip.clip_id: inspections[clip.path] for clip in clips}
    facts = {
        clip.clip_id: ClipFacts(len(frames_of(clip, info)), info.width, info.height, inspections[clip.path].sha1)
        for clip, info in usable_clips(clips, inspections).items()
    }
    names = list(found)
    # Equal files are listed as duplicates already.
    pairs = [
        (names[pair.first], names[pair.second], pair.distance_bits)
        for pair in near_duplicates([inspection.frame_hashes for inspection in found.values()])
        if found[names[pair.first]].sha1 != found[names[pair.second]].sha1
    ]
    return measure_leakage(split, facts, near_duplicates=pairs)


def check_window(stride: Stride, lengths: Iterable[int], *, num_frames: int) -> None:
    """Make sure that the longest clip fills half of a window, the rest of which repeats its last frame.

    Args:
        stride: Distance between two frames of a window, or `adaptive`.
        lengths: Number of frames of each clip.
        num_frames: Frames of a window.

    Raises:
        ConfigError: it does not.
    """
    longest = max(lengths)
    if isinstance(stride, int) and num_frames > 1 and stride >= longest:
        raise ConfigError(f"--data.stride {stride} is longer than any clip (the longest has {longest} frames); try 2")
    own = math.ceil(longest / stride_for(longest, num_frames=num_frames, stride=stride))
    if 2 * own < num_frames:
        raise ConfigError(
            f"--data.num_frames {num_frames}: the longest clip, {longest} frames, has {own} for a window at stride "
            f"{stride}, and the last would be repeated for the others; try {own}"
        )
