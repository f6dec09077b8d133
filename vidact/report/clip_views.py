"""Explain the clips that a report shows, and read their frames for people to look at."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from vidact.attribution.account import in_words, parts_of
from vidact.attribution.names import LRP, PREDICTED, TRUE, unit_of
from vidact.core.clips import ClipBatch, as_float
from vidact.core.errors import DataError
from vidact.core.explanation import Explanation
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datamodule import VideoDataModule
from vidact.data.loading.windows import Window
from vidact.data.video.reading import read_frames
from vidact.explaining.settings import ExplainSettings
from vidact.report.contents import ClipView, RelevanceView
from vidact.runs.accuracy.parts import MeasuredPart
from vidact.runs.run import Run

VIEW_HEIGHT_PIXELS = 240
BATCH_SIZE = 8
TOP_CLASSES = 5


def explain_clips(
    run: Run, measured: MeasuredPart, chosen: Sequence[int], *, methods: Sequence[str], device: torch.device
) -> tuple[ClipView, ...]:
    """Explain clips by each method, for the predicted class and, where that is wrong, for the true one.

    Args:
        run: The trained network.
        measured: The clips and what the network says of them.
        chosen: Which of these clips.
        methods: Names of methods, as `ExplainSettings` takes them.
        device: Where to.

    Raises:
        ExplanationError: the network cannot be explained by one of the methods.
    """
    wrong = [clip for clip in chosen if not measured.is_right[clip]]
    found: dict[int, list[RelevanceView]] = {clip: [] for clip in chosen}
    network = run.network.to(device)
    for method in methods:
        with ExplainSettings(method, batch_size=BATCH_SIZE).build_explainer(network) as explain:
            for role, clips, targets in ((PREDICTED, chosen, measured.predicted), (TRUE, wrong, measured.label)):
                for start in range(0, len(clips), BATCH_SIZE):
                    part = list(clips[start : start + BATCH_SIZE])
                    video = as_float(measured.batch(part).video.to(device))
                    explanation = explain(video, targets[part].to(device))
                    for clip, view in zip(part, _relevance_views(run, explanation, role=role), strict=True):
                        found[clip].append(view)
    return tuple(_clip_view(run, measured, clip, tuple(views)) for clip, views in found.items())


def _relevance_views(run: Run, explanation: Explanation, *, role: str) -> list[RelevanceView]:
    """Split an explanation of several clips into one view per clip."""
    is_conserving = explanation.method.startswith(LRP)
    return [
        RelevanceView(
            method=explanation.method,
            target=run.class_names[int(explanation.target[row])],
            role=role,
            score=float(explanation.score[row]),
            conservation=float(explanation.conservation[row]) if is_conserving else None,
            relevance=explanation.relevance[row].sum(dim=0).cpu().numpy(),
            unit=unit_of(explanation.method),
            where="" if explanation.account is None else in_words(parts_of(explanation.account, row), score),
        )
        for row, score in enumerate(explanation.score.tolist())
    ]


def _clip_view(run: Run, measured: MeasuredPart, clip: int, explanations: tuple[RelevanceView, ...]) -> ClipView:
    batch, probabilities = measured.batch([clip]), measured.probabilities[clip]
    best = probabilities.argsort(descending=True)[:TOP_CLASSES].tolist()
    return ClipView(
        clip_id=measured.window(clip).clip.clip_id,
        true_class=run.class_names[int(measured.label[clip])],
        probabilities=tuple((run.class_names[k], float(probabilities[k])) for k in best),
        video=_pixels(measured.window(clip), batch, data=measured.data),
        frame_numbers=batch.frame_numbers[0].numpy(),
        times_seconds=batch.times_seconds[0].numpy(),
        explanations=explanations,
    )


def _pixels(window: Window, batch: ClipBatch, *, data: VideoDataModule) -> UInt8[np.ndarray, "C T H W"]:
    """Read a window's frames in colour and with their own aspect; as the network sees them if that fails."""
    path = window.clip.path
    info = inspect_clips([path], root=data.folder, decoder=data.decoder)[path].info
    if info is None:  # the file was there a moment ago
        return batch.video[0].numpy()
    height = min(VIEW_HEIGHT_PIXELS, info.height)
    size = (height, max(1, round(height * info.width / info.height)))
    try:
        decoder = window.decoder(data.decoder)
        return read_frames(path, window.frame_numbers, size=size, gray=False, decoder=decoder).numpy()
    except DataError:
        return batch.video[0].numpy()
