"""Explain clips in a notebook in a few lines: `load` or `adopt` a network, `explain` a video or array, look at it."""

import copy
import html
import tempfile
import warnings
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vidact.attribution.lrp.composites import CompositeSpec
from vidact.attribution.names import AUTO, HOTSPOT_THRESHOLD, LRP, PREDICTED, unit_of
from vidact.core.devices import choose_device
from vidact.core.errors import ConfigError
from vidact.core.networks import class_path
from vidact.data.loading.streaming import Video, VideoArray, VideoFile, pick_frames
from vidact.data.video.reading import to_network_size
from vidact.data.video.timeline import FrameRates
from vidact.drawing.timeline import evenly_spread
from vidact.explaining.settings import ExplainSettings
from vidact.explaining.stitching import Subject
from vidact.explaining.videos import VideoExplanation, explain_video
from vidact.report.contents import ClipView, RelevanceView
from vidact.report.page import clip_page
from vidact.runs.adopting import (
    ADAPTER,
    USUAL,
    Adaptation,
    ClipsOfNetwork,
    data_settings,
    shape_of,
)
from vidact.runs.building import find_builder, try_network
from vidact.runs.run import Run, open_run, window_of

VIEW_HEIGHT_PIXELS = 240
MAX_SHOWN_FRAMES = 96
TOP_CLASSES = 5
FRAME_HEIGHT_PIXELS = 620


@dataclass(frozen=True)
class ClipExplanation:
    """The explanation of a clip; a notebook shows it as a player.

    Attributes:
        found: All numbers: probabilities, scores, frames and times.
        relevance: Signed, for each frame that the network saw, summed over colour.
        view: What is drawn.
        threshold: A voxel is a hotspot from this share of the clip's largest |R| on.
    """

    found: VideoExplanation
    relevance: Float[np.ndarray, "T h w"] = field(repr=False)
    view: ClipView = field(repr=False)
    threshold: float = HOTSPOT_THRESHOLD

    def _repr_html_(self) -> str:
        page = html.escape(clip_page(self.view, threshold=self.threshold), quote=True)
        return (
            f'<iframe title="explanation of a clip" srcdoc="{page}" '
            f'style="width:100%;height:{FRAME_HEIGHT_PIXELS}px;border:0"></iframe>'
        )


def load(run: str | Path, *, trust: Sequence[str] = ()) -> Run:
    """Load a trained network: a run folder or a checkpoint.

    Args:
        run: The folder or the file.
        trust: Modules that the run's config may import, as `["my_net"]`; vidact, torch, torchvision and lightning need
            no naming.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: its config cannot be found or built, or names code that is not trusted.
    """
    return open_run(run, trust=trust)


def adopt(
    network: nn.Module,
    class_names: Sequence[str],
    *,
    clips: ClipsOfNetwork | None = None,
    adaptation: Adaptation | None = None,
) -> Run:
    """Make a run of a network that is in memory, whoever trained it, for `explain`; nothing is written.

    For a run folder, on which all verbs work: `python -m vidact adopt`.

    Args:
        network: From clips [B, C, T, H, W] in [0, 1] to logits [B, K], or what `adaptation` says; a copy is explained.
        class_names: In the order of its outputs.
        clips: What it was trained on, as `ClipsOfNetwork(num_frames=16, size=112, fps=15)`.
        adaptation: What it takes and returns, as `Adaptation(mean=(0.45,) * 3, std=(0.225,) * 3, output="logits")`.

    Raises:
        NetworkError: it does not map such clips to a logit for each class.
        ConfigError: classes are named twice, or settings contradict each other.
    """
    names, clips, adaptation = tuple(class_names), clips or ClipsOfNetwork(), adaptation or Adaptation()
    if isinstance(class_names, str) or len(set(names)) < len(names):
        raise ConfigError(f"expected the names of classes, each once, got {class_names!r}")
    name, copied = class_path(network), copy.deepcopy(network).float().eval()
    if adaptation.settings:
        copied = find_builder(ADAPTER)(network=copied, **adaptation.settings).eval()
    data = data_settings(clips, names, usual=USUAL)
    try_network(copied, **shape_of(data))
    rates = None if clips.fps is None else FrameRates.of([], fps=clips.fps)
    # Its checkpoint is no file.
    return Run(name, None, Path(name), {"data": data, "model": {}}, names, 0, copied, (), rates, name)


def explain(
    run: Run,
    clip: str | Path | np.ndarray | Tensor,
    *,
    target: str = PREDICTED,
    method: str = LRP,
    composite: CompositeSpec = AUTO,
    fps: float | int | None = None,
    threshold: float = HOTSPOT_THRESHOLD,
) -> ClipExplanation:
    """Explain a video file, or an array uint8 [T, H, W, C] or [C, T, H, W], of any length.

    Args:
        run: From `load`.
        clip: The video file or array.
        target: `predicted`, a class, or `A-vs-B`.
        method: One of `attribution.registry.METHODS`.
        composite: The rules per layer, for `lrp`; `auto` for epsilon_plus where rules on modules can follow the
            network, else cp_lrp.
        fps: Frames per second of an array; that of the network's training clips if None.
        threshold: A voxel is a hotspot from this share of the clip's largest |R| on.

    Raises:
        DataError: the clip cannot be read.
        ExplanationError: there is no such class, or the network cannot be explained by this method.
    """
    own = fps or (run.frame_rates.usual if run.frame_rates else 30.0)
    video: Video = VideoFile(Path(clip)) if isinstance(clip, str | Path) else VideoArray(clip, fps=own)
    settings = ExplainSettings(method, composite, target)
    device = choose_device("auto")
    subject = Subject(video, window_of(run), device)
    with tempfile.TemporaryDirectory(prefix="vidact-") as scratch:
        with settings.build_explainer(run.network.to(device)) as explainer:
            found = explain_video(
                explainer, subject, class_names=run.class_names, settings=settings, scratch=Path(scratch)
            )
        relevance = found.relevance.read()
    if found.note:
        warnings.warn(f"{found.name}: {found.note}", stacklevel=2)
    return ClipExplanation(found, relevance, _view(video, found, relevance), threshold)


def show(explanation: ClipExplanation) -> Path:
    """Open an explanation in the browser, without a notebook.

    Args:
        explanation: As `explain` gives it.

    Returns:
        The page's file, in the system's folder for temporary files; it is not removed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="vidact-", delete=False, encoding="utf-8") as file:
        file.write(clip_page(explanation.view, threshold=explanation.threshold))
    path = Path(file.name)
    webbrowser.open(path.as_uri())
    return path


def _view(video: Video, found: VideoExplanation, relevance: Float[np.ndarray, "T h w"]) -> ClipView:
    """Gather what is shown, with at most MAX_SHOWN_FRAMES frames."""
    chosen = evenly_spread(len(relevance), at_most=MAX_SHOWN_FRAMES)
    ratios = found.window_conservation
    if found.warning:
        warnings.warn(f"{found.name}: {found.warning}", stacklevel=3)
    view = RelevanceView(
        method=found.method,
        target=found.target_name,
        role="predicted" if found.target == int(found.probabilities.argmax()) and found.against is None else "chosen",
        score=found.score,
        conservation=float(ratios.mean()) if found.method.startswith(LRP) else None,
        relevance=relevance[chosen],
        unit=unit_of(found.method),
        where=found.where,
    )
    return ClipView(
        clip_id=found.name,
        true_class=None,
        probabilities=found.top_classes(TOP_CLASSES),
        video=_pixels(video, found.frame_numbers[chosen].tolist()),
        frame_numbers=found.frame_numbers[chosen],
        times_seconds=found.times_seconds[chosen],
        explanations=(view,),
    )


def _pixels(video: Video, numbers: list[int]) -> UInt8[np.ndarray, "C T H W"]:
    pictures = []
    for frame in pick_frames(video, numbers):
        height, width = frame.size or frame.picture.shape[:2]
        new_height = min(VIEW_HEIGHT_PIXELS, height)
        size = (new_height, max(1, round(new_height * width / height)))
        pictures.append(to_network_size(torch.from_numpy(frame.picture), size, gray=False))
    return torch.stack(pictures, dim=1).numpy()
