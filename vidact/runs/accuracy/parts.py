"""Run a trained network over one part of its data, and choose clips to look at; `report` and `accuracy` use it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader

from vidact.core.clips import ClipBatch, as_float
from vidact.core.errors import DataError
from vidact.core.intervals import ClusteredMean, clustered_mean
from vidact.core.progress import progress_bar
from vidact.data.datamodule import VideoDataModule
from vidact.data.loading.windows import Window, WindowDataset, join
from vidact.runs.accuracy.predictions import Predictions, WindowPredictions, mean_scores
from vidact.runs.run import Run
from vidact.runs.splits import read_kept_split, require_unseen

STAGES = {"validation": "validate", "test": "test"}
SEED = 0


@dataclass(frozen=True)
class MeasuredPart:
    """A network's predictions for each clip of a part of its data.

    Attributes:
        part: Which part.
        data: The data module, set up.
        dataset: The part's windows.
        rows: For each clip the row of its middle window.
        label: The true class.
        probabilities: Mean over the clip's windows.
        left_out: A line for each skipped clip, which could not be read.
    """

    part: str
    data: VideoDataModule = field(repr=False)
    dataset: WindowDataset = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    label: Int[Tensor, " N"] = field(repr=False)
    probabilities: Float[Tensor, "N K"] = field(repr=False)
    left_out: tuple[str, ...]

    @property
    def predicted(self) -> Int[Tensor, " N"]:
        """The most probable class of each clip."""
        return self.probabilities.argmax(dim=1)

    @property
    def is_right(self) -> Bool[Tensor, " N"]:
        """Whether each clip is classified correctly."""
        return self.predicted == self.label

    def window(self, clip: int) -> Window:
        """Give the middle window of a clip."""
        return self.dataset.windows[self.rows[clip]]

    def batch(self, clips: Sequence[int]) -> ClipBatch:
        """Read the middle windows of some clips."""
        return join([self.dataset[self.rows[clip]] for clip in clips])

    def accuracy(self, label: int | None = None) -> ClusteredMean | None:
        """Give the accuracy with its 95 % interval, clustered by source video.

        Args:
            label: Class whose clips are counted; all clips if None.

        Returns:
            None where there is no such clip.
        """
        clips = [number for number, own in enumerate(self.label.tolist()) if label in (None, own)]
        if not clips:
            return None
        sources = [self.window(clip).clip.source for clip in clips]
        return clustered_mean(self.is_right[clips].double(), sources)


def measure_part(run: Run, part: str, *, device: torch.device, data: VideoDataModule | None = None) -> MeasuredPart:
    """Score the clips of a part of a run's data with its network.

    Args:
        run: The trained network.
        part: `validation` or `test`.
        device: Where to.
        data: The run's data module, where it is at hand; built anew if None.

    Raises:
        DataError: the data is not where it was, or this part of it has no clip that can be read.
        ConfigError: a setting of the data that makes no sense today, or the run was trained on clips of the part.
    """
    data = data or run.build_data()
    if data.class_names != run.class_names:
        raise DataError(f"the network knows the classes {list(run.class_names)}, the data has {list(data.class_names)}")
    data.prepare_data()
    data.setup(STAGES[part])
    if run.folder is not None:
        require_unseen(read_kept_split(run.folder), data.split_record[part], part=part, folder=run.folder)
    loader = data.val_dataloader() if part == "validation" else data.test_dataloader()
    predictions, left_out = _predict(run, loader, device)
    if predictions is None:
        raise DataError(f"the {part} part has no clip that can be read")
    probabilities, label = predictions.per_clip()
    dataset = cast(WindowDataset, loader.dataset)
    by_clip: dict[int, list[int]] = {}
    for row, window in enumerate(dataset.windows):
        by_clip.setdefault(window.clip_index, []).append(row)
    rows = [by_clip[clip] for clip in torch.unique(predictions.clip_index).tolist()]
    middles = tuple(own[len(own) // 2] for own in rows)
    return MeasuredPart(part, data, dataset, middles, label.cpu(), probabilities.cpu(), left_out)


@torch.inference_mode()
def _predict(
    run: Run, loader: DataLoader[ClipBatch], device: torch.device
) -> tuple[Predictions | None, tuple[str, ...]]:
    # No synchronisation: only one process measures, and others may have ended.
    metric, left_out, done = WindowPredictions(sync_on_compute=False).to(device), set[str](), 0
    network = run.network.to(device).eval()
    mirror = run.mirror_at_test
    with progress_bar(f"windows of {run.name}") as report:
        for batch in loader:
            left_out |= set(batch.left_out)
            if len(batch):
                on_device = batch.to(device)
                video = as_float(on_device.video)
                scores = network(video.clone())  # it may work in place
                metric.update(on_device, mean_scores(scores, network(video.flip(-1))) if mirror else scores)
            done += len(batch) + len(batch.left_out)
            report(done, len(cast(WindowDataset, loader.dataset)))
    return metric.compute(), tuple(sorted(left_out))


def choose_clips(measured: MeasuredPart, *, clips_per_class: int, num_mistakes: int) -> list[int]:
    """Choose clips to look at: some of each class, drawn at random with a fixed seed, and the most confident mistakes.

    The draw does not depend on the predictions, so that nobody can have picked what looks good.

    Args:
        measured: The clips.
        clips_per_class: How many of each class are drawn; fewer where it has fewer.
        num_mistakes: How many misclassified clips more, the most confident first.
    """
    order = torch.randperm(len(measured.label), generator=torch.Generator().manual_seed(SEED)).tolist()
    drawn: dict[int, list[int]] = {}
    for clip in order:
        own = drawn.setdefault(int(measured.label[clip]), [])
        if len(own) < clips_per_class:
            own.append(clip)
    chosen = [clip for label in sorted(drawn) for clip in drawn[label]]
    sureness = measured.probabilities.amax(dim=1).masked_fill(measured.is_right, -1)
    mistakes = [clip for clip in sureness.argsort(descending=True, stable=True).tolist() if sureness[clip] >= 0]
    return chosen + [clip for clip in mistakes if clip not in chosen][:num_mistakes]
