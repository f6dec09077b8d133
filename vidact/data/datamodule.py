"""The data of a run: from a folder of clips to batches for training, validation and test.

It does not know what the batches are for.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from vidact.core import ClipBatch, ConfigError, DataError
from vidact.data import synthetic
from vidact.data.hmdb51 import FOLDS, find_splits_folder, read_official_split
from vidact.data.index import Clip, choose_classes, index_clips
from vidact.data.inspection import Inspection, inspect_clips
from vidact.data.measuring import VideoInfo
from vidact.data.progress import progress_bar
from vidact.data.sampling import ADAPTIVE_STRIDES, Stride, window_span
from vidact.data.splits import NUM_FOLDS, Split, split_by_clip, split_by_source, split_officially
from vidact.data.windows import WindowDataset, join, list_windows

SplitScheme = Literal["source", "official", "clip"]
WORKER_TIMEOUT_SECONDS = 300
MAX_LISTED = 20
MIN_CLASSES = 2


class VideoDataModule(LightningDataModule):
    """Clips of HMDB51 or of any folder in its layout.

    Args:
        root: Folder with `<class>/*.avi` or `videos/<class>/*.avi`. None renders a small synthetic set, once,
            into the user's cache folder.
        classes: Which classes, in the order of their numbers; all if None.
        split: How to divide into training, validation and test. `source`: no source video on two sides (five
            folds). `official`: HMDB51's split files (three folds). `clip`: at random, as the 2020 report did.
            Validation is always taken out of the training side, by source.
        fold: Which fold of the split is the test part, from 1.
        splits_folder: Where the official split files are; searched in and beside `root` if None.
        num_frames: Frames per window.
        stride: Distance between two frames of a window; `adaptive` is the report's scheme, 3 to 6 by the
            clip's length. A clip shorter than its window repeats its last frame.
        num_windows: Windows per clip, spread evenly from its start to its end; one sits in the middle.
        size: Side in pixels, or height and width. Frames are squeezed to it.
        gray: One colour channel in place of three.
        batch_size: Windows per batch and process.
        num_workers: Processes that decode; 0 decodes in the training process.
        seed: Chooses the split, the clips to explain and, in one process, the order of training.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: list[str] | None = None,
        split: SplitScheme = "source",
        fold: int = 1,
        splits_folder: str | None = None,
        num_frames: int = 16,
        stride: Stride = 2,
        num_windows: int = 1,
        size: int | tuple[int, int] = 100,
        gray: bool = True,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = Path(root).absolute() if root is not None else None
        self.split_scheme, self.fold = split, fold
        self.splits_folder = Path(splits_folder) if splits_folder is not None else None
        self.num_frames, self.stride, self.num_windows = num_frames, stride, num_windows
        self.size = (size, size) if isinstance(size, int) else size
        self.gray = gray
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._check_settings()
        self._class_names = self._choose_classes(classes)
        self._parts: dict[str, WindowDataset] = {}
        self.left_out: tuple[str, ...] = ()

    def _check_settings(self) -> None:
        folds = len(FOLDS) if self.split_scheme == "official" else NUM_FOLDS
        at_least = {"num_frames": 1, "num_windows": 1, "batch_size": 1, "num_workers": 0, "stride": 1}
        for name, smallest in at_least.items():
            value = getattr(self, name)
            if isinstance(value, int) and value < smallest:
                raise ConfigError(f"--data.{name} must be at least {smallest}, got {value}")
        if self.seed < 0:
            raise ConfigError(f"--data.seed must be at least 0, got {self.seed}")
        if min(self.size) < 1:
            raise ConfigError(f"--data.size must be at least 1 pixel, got {self.size}")
        if self.split_scheme not in get_args(SplitScheme):
            raise ConfigError(f"--data.split is one of {get_args(SplitScheme)}, got {self.split_scheme!r}")
        if not 1 <= self.fold <= folds:
            raise ConfigError(f"split {self.split_scheme!r} has folds 1 to {folds}, got --data.fold {self.fold}")

    def _choose_classes(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        if classes is not None and len(classes) < MIN_CLASSES:
            raise ConfigError(f"--data.classes needs {MIN_CLASSES} or more, got {classes}; without it, all are used")
        if self.root is not None:
            return choose_classes(self.root, classes)
        unknown = sorted(set(classes or ()) - set(synthetic.CLASS_NAMES))
        if unknown:
            raise DataError(f"the synthetic set has no class {unknown[0]!r}; it has {list(synthetic.CLASS_NAMES)}")
        return tuple(classes) if classes is not None else synthetic.CLASS_NAMES

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""
        return self._class_names

    @property
    def folder(self) -> Path:
        """Where the clips are."""
        return self.root if self.root is not None else synthetic.default_folder()

    def prepare_data(self) -> None:
        """Render the synthetic set if it is the one asked for, and measure every clip (one process per node)."""
        if self.root is None:
            with progress_bar("rendering the synthetic set") as progress:
                synthetic.synthesize(self.folder, progress=progress)
        clips = index_clips(self.folder, classes=self.class_names)
        with progress_bar("measuring clips") as progress:
            inspect_clips([clip.path for clip in clips], progress=progress)

    def setup(self, stage: str) -> None:
        """Divide the clips and list the windows, the same for every stage and on every process."""
        if self._parts:
            return
        clips = index_clips(self.folder, classes=self.class_names)
        inspections = inspect_clips([clip.path for clip in clips])
        self.left_out = tuple(
            f"{clip.clip_id}: {inspections[clip.path].reason}" for clip in clips if not inspections[clip.path].info
        )
        infos = {path: found.info for path, found in inspections.items() if found.info}
        self._check_lengths(clips, infos)
        split = self._split(clips)
        self._parts = self._list_parts(split, infos)
        for stage in ("fit", "validate"):
            if not len(self._parts[stage]):
                raise DataError(f"no clip that can be read is left to {stage}; add clips, or use another split")
        self._report(clips, inspections)
        self._report_split(clips, split)

    def _split(self, clips: Sequence[Clip]) -> Split:
        if self.split_scheme == "source":
            return split_by_source(clips, fold=self.fold, seed=self.seed)
        if self.split_scheme == "clip":
            return split_by_clip(clips, fold=self.fold, seed=self.seed)
        folder = self.splits_folder or find_splits_folder(self.folder)
        flags = read_official_split(folder, fold=self.fold, class_names=self.class_names)
        return split_officially(clips, flags=flags, seed=self.seed)

    def _check_lengths(self, clips: Sequence[Clip], infos: dict[Path, VideoInfo]) -> None:
        readable = Counter(clip.class_name for clip in clips if clip.path in infos)
        for name in self.class_names:
            if not readable[name]:
                first = next(line for line in self.left_out if line.startswith(f"{name}/"))
                raise DataError(f"class {name!r}: none of its clips can be read; the first: {first}")
        longest = max(info.num_frames for info in infos.values())
        if isinstance(self.stride, int) and self.num_frames > 1 and self.stride >= longest:
            raise ConfigError(
                f"--data.stride {self.stride} is longer than any clip (the longest has {longest} frames); try 2"
            )

    def _list_parts(self, split: Split, infos: dict[Path, VideoInfo]) -> dict[str, WindowDataset]:
        parts = {"fit": split.training, "validate": split.validation, "test": split.test}
        return {
            stage: WindowDataset(
                list_windows(
                    [clip for clip in clips if clip.path in infos],
                    infos,
                    num_frames=self.num_frames,
                    stride=self.stride,
                    num_windows=self.num_windows,
                ),
                size=self.size,
                gray=self.gray,
            )
            for stage, clips in parts.items()
        }

    def _report(self, clips: Sequence[Clip], inspections: dict[Path, Inspection]) -> None:
        """Say what was found, what is left out and why."""
        sizes = ", ".join(
            f"{len({window.clip_index for window in part.windows})} clips ({len(part)} windows) to {stage}"
            for stage, part in self._parts.items()
        )
        rank_zero_info(f"{self.folder}: {len(clips)} clips of {len(self.class_names)} classes; {sizes}")
        if self.left_out:
            rank_zero_info(_listed(f"left out, {len(self.left_out)} clips that cannot be read", self.left_out))
        cut = [clip for clip in clips if inspections[clip.path].truncated]
        if cut:
            rows = [f"{clip.clip_id}: {_claim(inspections[clip.path].info)}" for clip in cut]
            rank_zero_info(_listed(f"used as far as they decode, {len(cut)} clips whose header claims more", rows))
        smallest = ADAPTIVE_STRIDES[0] if self.stride == "adaptive" else self.stride
        span = window_span(self.num_frames, stride=smallest)
        short = sum(found.info.num_frames < span for found in inspections.values() if found.info)
        if short:
            rank_zero_info(f"{short} clips are shorter than a window ({span} frames): their last frame is repeated")

    def _report_split(self, clips: Sequence[Clip], split: Split) -> None:
        """Say how honest the split is, and what it does not use."""
        used = len(split.training) + len(split.validation) + len(split.test)
        if used < len(clips):
            rank_zero_info(f"{len(clips) - used} clips are used by no side of this split")
        learned = {clip.source for clip in (*split.training, *split.validation)}
        shared = sum(clip.source in learned for clip in split.test)
        if shared:
            rank_zero_info(f"{shared} of {len(split.test)} test clips share their source with training or validation")

    def train_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches to learn from, shuffled anew each epoch."""
        return self._loader("fit", shuffle=True)

    def val_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches to choose a checkpoint by, in fixed order."""
        return self._loader("validate")

    def test_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches to measure the final network on, in fixed order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches to predict: those of the test part."""
        return self._loader("test")

    def _loader(self, stage: str, *, shuffle: bool = False) -> DataLoader[ClipBatch]:
        return DataLoader(
            self._parts[stage],
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            collate_fn=join,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            timeout=WORKER_TIMEOUT_SECONDS if self.num_workers else 0,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def example_clips(self, stage: str, clips_per_class: int) -> ClipBatch:
        """Pick the same few clips of each class every time, one window each, chosen by `seed`.

        Args:
            stage: 'validate' or 'test'.
            clips_per_class: How many; fewer where a class has fewer.
        """
        dataset = self._parts[stage]
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(self.seed)).tolist()
        chosen: dict[int, list[int]] = {label: [] for label in range(len(self.class_names))}
        seen: set[int] = set()
        for row in order:
            window = dataset.windows[row]
            rows = chosen[window.clip.label]
            if len(rows) < clips_per_class and window.clip_index not in seen:
                seen.add(window.clip_index)
                rows.append(row)
        return join([dataset[row] for rows in chosen.values() for row in rows])


def _claim(info: VideoInfo | None) -> str:
    return f"{info.num_frames} of {info.header_frames} frames decode" if info else ""


def _listed(title: str, rows: Sequence[str]) -> str:
    rest = [f"  … and {len(rows) - MAX_LISTED} more"] if len(rows) > MAX_LISTED else []
    return "\n".join([f"{title}:", *(f"  {row}" for row in rows[:MAX_LISTED]), *rest])
