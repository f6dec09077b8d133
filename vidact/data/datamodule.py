"""Define `VideoDataModule`, which turns a data set on disk into batches for training, validation and test."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from vidact.core.clips import ClipBatch, height_and_width
from vidact.core.errors import DataError
from vidact.core.progress import progress_bar
from vidact.core.terminal import printable_lines
from vidact.data import preparation
from vidact.data.checks.findings import check_clips
from vidact.data.datasets.clip_frames import frames_of
from vidact.data.datasets.datapoints import datapoint_prefixes
from vidact.data.datasets.index import Clip, list_notes
from vidact.data.loading.augmentation import AugmentationSettings
from vidact.data.loading.augmented import AugmentingDataModule
from vidact.data.loading.decoded import decode_windows
from vidact.data.loading.masks import choose_masks
from vidact.data.loading.order import training_order
from vidact.data.loading.windows import Window, WindowDataset, join, list_windows, pick_rows
from vidact.data.loading.workers import worker_options
from vidact.data.setting_checks import check_settings
from vidact.data.splits.files import split_record
from vidact.data.splits.leakage import LeakageReport
from vidact.data.splits.schemes import VALIDATION_SHARE
from vidact.data.splits.split import NUM_FOLDS
from vidact.data.synthetic import files as synthetic_files
from vidact.data.video.reading import Decoder
from vidact.data.video.sampling import FrameOrder, Stride, least_frames
from vidact.data.video.timeline import FrameRates

PARTS = {"fit": "training", "validate": "validation", "test": "test"}


class VideoDataModule(AugmentingDataModule):
    """Clips of HMDB51, J-HMDB, UCF101, of any folder in their layout, or of a CSV file.

    Args:
        root: Folder with `<class>/*`, `videos/<class>/*` or `train/<class>/*` and so on (avi, mp4, mkv, mov, webm), or
            a CSV file with the columns `path`, `class` and optionally `group`, `split`, `start`, `end`, or Kinetics'.
            None renders a small synthetic set, once, into the user's cache folder.
        classes: Classes, in the order of their numbers; all if None.
        split: How to split into training, validation and test. `auto`: `folders` or `table` if the data set has one,
            else `source`. `folders`: as its `train`, `val`, `test`. `table`: by its column `split`. `source`: no source
            video on two sides (five folds). `film`: the same, whatever its name's spelling. `kfold`: by film, in
            `num_folds`. `official`: the files of HMDB51, J-HMDB or UCF101 (three folds). `clip`: at random, as the 2020
            report did. Or a file of `python -m vidact data split` (*.json). Validation comes out of training.
        fold: Number of the test fold, from 1.
        num_folds: Number of folds of `kfold`.
        splits_folder: Folder of the official split files; searched in and beside `root` if None.
        use_unused: Add clips that the official split does not use to training, if their film is on no other side.
        validation_share: Share of the training side for validation; not for split files, which name the clips.
        num_frames: Frames per window.
        stride: Distance between two frames of a window; `adaptive` is the report's scheme, 3 to 6 by the
            clip's length. A clip shorter than its window repeats its last frame.
        frame_order: `shuffled`, `reversed` or `frozen` (the middle frame repeated) show what a network can do without
            the order of frames; each clip is always shuffled in the same way.
        num_windows: Windows per clip, spread evenly from its start to its end; a single one is in the middle.
        test_windows: Windows per clip in validation, test and prediction; `num_windows` if None.
        size: Side in pixels, or height and width. Frames are resized to it, without keeping their aspect.
        crop_from: Size at which training clips are decoded, so that crops of `augmentation`, which are resized to
            `size`, are sharp; `size` if None.
        gray: One colour channel instead of three.
        fps: Frames per second at which clips are sampled by their time stamps; all frames of the files if None.
        augmentation: Random changes of training clips, on the device; none if None.
        masks: Whether batches contain the actors' masks; true searches `masks` or `puppet_mask` in and beside `root`,
            a path names their folder.
        decoder: The library that decodes; `pyav` takes half the time of `decord` for the same frames. A file of which
            decord gives other pictures than PyAV, or none, is read with PyAV.
        cache_gigabytes: Limit of the decoded windows on disk, which all later epochs and runs use; 0 decodes each time.
        batch_size: Windows per batch and process.
        num_workers: Worker processes that decode; 0 decodes in the training process. Cached windows need none.
        seed: Seed of the split, of the choice of clips to explain and, with the epoch, of the order of training.
        follow_links: Follow links that lead out of `root`.
        datapoint_names: Name windows in predictions and explanations as the 2020 report did, as in `vcP1269_3`.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: list[str] | None = None,
        split: str = "auto",
        fold: int = 1,
        num_folds: int = NUM_FOLDS,
        splits_folder: str | None = None,
        use_unused: bool = False,
        validation_share: float = VALIDATION_SHARE,
        num_frames: int = 16,
        stride: Stride = 2,
        frame_order: FrameOrder = "natural",
        num_windows: int = 1,
        test_windows: int | None = None,
        size: int | tuple[int, int] = 100,
        crop_from: int | tuple[int, int] | None = None,
        gray: bool = True,
        augmentation: AugmentationSettings | None = None,
        masks: bool | str = False,
        decoder: Decoder = "decord",
        cache_gigabytes: float = 20.0,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
        follow_links: bool = False,
        fps: float | None = None,
        datapoint_names: bool = False,
    ) -> None:
        super().__init__()
        self.root = Path(root).absolute() if root is not None else None
        folder = Path(splits_folder) if splits_folder is not None else None
        self.split_settings = preparation.SplitSettings(
            split, fold, num_folds, seed, folder, use_unused, validation_share
        )
        self.num_frames, self.stride, self.num_windows = num_frames, stride, num_windows
        self.test_windows = num_windows if test_windows is None else test_windows
        self.frame_order: FrameOrder = frame_order
        self.fps, self.datapoint_names, self.cache_gigabytes = fps, datapoint_names, cache_gigabytes
        self.size = height_and_width(size)
        self.crop_from = height_and_width(size if crop_from is None else crop_from)
        self.gray, self.augmentation, self._masks = gray, augmentation, masks
        self.decoder: Decoder = decoder
        self.batch_size, self.num_workers, self.seed, self.follow_links = batch_size, num_workers, seed, follow_links
        self._listing: dict[str, Any] = {"follow_links": follow_links, "decoder": decoder}
        check_settings(vars(self))
        self._class_names = preparation.choose_class_names(self.root, classes)
        self._windows: dict[str, list[Window]] = {}
        self._parts: dict[str, WindowDataset] = {}
        self.left_out: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""
        return self._class_names

    @property
    def folder(self) -> Path:
        """Folder or table of the clips."""
        return self.root if self.root is not None else synthetic_files.default_folder()

    @property
    def leakage(self) -> LeakageReport:
        """What leaks between the sides of the split; after `setup`."""
        return self._leakage

    @property
    def split_record(self) -> dict[str, Any]:
        """The split as in a split file, with its leakage report and the SHA-1 of the files; after `setup`."""
        sha1s = {path: found.sha1 for path, found in self._inspections.items() if found.usable}
        return split_record(self._split, leakage=self._leakage.record(), sha1s=sha1s)

    def prepare_data(self) -> None:
        """Render the synthetic set if `root` is None, and inspect every clip (one process per node)."""
        if self.root is None:
            with progress_bar("rendering the synthetic set") as progress:
                synthetic_files.synthesize(self.folder, progress=progress)
        preparation.load_clips(self.folder, classes=self.class_names, **self._listing)

    def order_frames(self, frame_order: FrameOrder) -> None:
        """Change the order of frames in windows from here on, to measure its effect; the split stays."""
        # Augmentation's jitter needs frames in order.
        self.frame_order, self.augmentation, self.crop_from = frame_order, None, self.size
        self._parts.clear()
        if self._windows:
            self._list_parts()

    def setup(self, stage: str) -> None:
        """Split the clips and decode the stage's windows, alike on every process."""
        if not self._windows:
            self._describe_data()
        for part in ("fit", "validate") if stage == "fit" else (stage if stage in PARTS else "test",):
            self._part(part)

    def _describe_data(self) -> None:
        clips, inspections = preparation.load_clips(self.folder, classes=self.class_names, **self._listing)
        self._split = preparation.divide(clips, self.folder, settings=self.split_settings)
        self._leakage = preparation.examine(self._split, inspections)
        self.left_out = preparation.list_unusable(clips, inspections)
        self._inspections, self._infos = inspections, preparation.usable_clips(clips, inspections)
        self._datapoints = datapoint_prefixes(clips) if self.datapoint_names else None
        lengths = [len(frames_of(clip, info, fps=self.fps)) for clip, info in self._infos.items()]
        preparation.check_window(self.stride, lengths, num_frames=self.num_frames)
        self._list_parts()
        for stage in ("fit", "validate"):
            if not self._windows[stage]:
                raise DataError(f"no readable clip is left to {stage}; add clips, or use another split")
        self._report(clips)

    def _list_parts(self) -> None:
        for stage, side in PARTS.items():
            chosen = [clip for clip in self._split.sides[side] if clip in self._infos]
            self._windows[stage] = self._list_windows(chosen, training=stage == "fit")

    def _list_windows(self, clips: Sequence[Clip], *, training: bool) -> list[Window]:
        return list_windows(
            clips,
            {clip.path: self._infos[clip] for clip in clips},
            num_frames=self.num_frames,
            stride=self.stride,
            num_windows=self.num_windows if training else self.test_windows,
            margin=self.augmentation.temporal_jitter if training and self.augmentation else 0,
            sha1s={clip.path: self._inspections[clip.path].sha1 for clip in clips},
            frame_order=self.frame_order,
            fps=self.fps,
            datapoints=self._datapoints,
        )

    @property
    def frame_rates(self) -> FrameRates:
        """Frames per second of the training clips, after resampling; after `setup`."""
        rates = self.rates_of("fit")
        assert rates is not None, "`setup` refuses a data set that leaves nothing to fit"
        return rates

    def rates_of(self, stage: str) -> FrameRates | None:
        """Compute the frames per second of a stage's clips, after resampling; None where there is no clip."""
        rates = [self._infos[window.clip].fps for window in self._windows[stage]]
        return FrameRates.of(rates, fps=self.fps) if rates else None

    def state_dict(self) -> dict[str, Any]:
        """Return the frames per second of the training clips, for the checkpoint."""
        return {"frame_rates": asdict(self.frame_rates)} if self._windows else {}

    def _part(self, stage: str) -> WindowDataset:
        if stage not in self._parts:
            self._parts[stage] = self._make_part(stage)
        return self._parts[stage]

    def _make_part(self, stage: str) -> WindowDataset:
        masks = choose_masks(self.folder, self._masks) if self._masks else None
        size = self.crop_from if stage == "fit" else self.size
        settings: dict[str, Any] = {"size": size, "gray": self.gray, "decoder": self.decoder}
        decoded = None
        if self.cache_gigabytes and self._windows[stage]:
            # Windows of all clips, so that every split and every stage finds them in the cache.
            every = self._list_windows(list(self._infos), training=stage == "fit")
            with progress_bar("decoding windows") as progress:
                limit = int(self.cache_gigabytes * 1e9)
                decoded = decode_windows(
                    every, limit_bytes=limit, num_workers=self.num_workers, progress=progress, **settings
                )
        return WindowDataset(self._windows[stage], decoded=decoded, masks=masks, **settings)

    def _report(self, clips: Sequence[Clip]) -> None:
        """Log which clips were found, how they were split, which are skipped and why, and what leaks."""
        least = least_frames(num_frames=self.num_frames, stride=self.stride)
        # compare: `examine` has done so.
        check = check_clips(clips, self._inspections, least_frames=least, fps=self.fps, compare=False)
        windows = ", ".join(f"{len(listed)} windows to {stage}" for stage, listed in self._windows.items())
        notes = list_notes(self.folder, scheme=self._split.scheme)
        lines = [f"{self.folder}: {windows}", *notes, *check.summary(), *self.frame_rates.advice()]
        rank_zero_info(printable_lines([*lines, *self._split.lines(), *self._leakage.lines()]))

    def train_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches to train on, shuffled anew each epoch."""
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
        part = self._part(stage)
        num_workers = 0 if part.needs_no_decoding else self.num_workers
        order = training_order(part, self.trainer, seed=self.seed, batch_size=self.batch_size) if shuffle else None
        return DataLoader(
            part,
            batch_size=self.batch_size,
            sampler=order,
            collate_fn=join,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **worker_options(num_workers),
            generator=torch.Generator().manual_seed(self.seed),  # its own: the number of draws depends on workers
        )

    def example_clips(self, stage: str, clips_per_class: int, *, other_sources: bool = False) -> ClipBatch:
        """Pick a few clips of each class, one window each, by `seed`: always the same ones.

        Args:
            stage: 'validate' or 'test'.
            clips_per_class: Number of clips; fewer where a class has fewer.
            other_sources: No two clips of a class from one source.
        """
        dataset, draw = self._part(stage), torch.Generator().manual_seed(self.seed)
        settings: dict[str, Any] = {"clips_per_class": clips_per_class, "other_sources": other_sources}
        rows = pick_rows(dataset.windows, generator=draw, **settings)
        return join([dataset[row] for row in rows])
