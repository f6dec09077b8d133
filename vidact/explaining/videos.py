"""Explain a video of any length: windows slide over it, and their relevance is stitched together over time.

It draws and keeps nothing but one scratch file; memory depends on the window, not on the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from vidact.attribution.account import in_words, join_accounts, mean_parts, warning_of
from vidact.attribution.base import Explainer
from vidact.attribution.lrp.composites import CompositeSpec, read_recipe
from vidact.attribution.names import DEFAULT_COMPOSITE, LRP, PREDICTED
from vidact.attribution.registry import build_explainer, check_method
from vidact.attribution.targets import REST, REST_WORD, VERSUS, select_target
from vidact.core.errors import ConfigError, ExplanationError
from vidact.explaining.stitching import RelevanceFile, Subject, _Stitcher


@dataclass(frozen=True)
class ExplainSettings:
    """What is explained, and how.

    Attributes:
        method: One of `explainers.METHODS`.
        composite: The rules per layer, for `lrp`.
        target: `predicted`, a class, or two of them, `A-vs-B`.
        batch_size: Windows that go through the network at once.
    """

    method: str = LRP
    composite: CompositeSpec = DEFAULT_COMPOSITE
    target: str = PREDICTED
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_method(self.method)
        read_recipe(self.composite)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")

    def check_target(self, class_names: Sequence[str]) -> None:
        """Make sure that the target is a class, before anything is read.

        Raises:
            ExplanationError: it is none.
        """
        select_target(self.target, torch.eye(len(class_names))[:1], label=None, class_names=class_names)

    def build_explainer(self, network: nn.Module) -> Explainer:
        """Build the explainer of a network."""
        own = {"composite": self.composite} if self.method == LRP else {}
        return build_explainer(self.method, network, batch_size=self.batch_size, **own)


@dataclass(frozen=True)
class VideoExplanation:
    """Why a network sees a class in a video, frame by frame.

    The network sees windows. The relevance of a frame is the mean over the windows that hold it, in units of a
    window's logit; score and probabilities are means over all windows. Windows hold some frames several times where the
    network learned from more frames per second than the video has: such a frame has the sum of what each of them got.

    Attributes:
        name: Of the video.
        method: Name of the method, with its composite.
        class_names: In the order of their numbers.
        target: The class that is spoken for.
        against: The class that is spoken against; −1 for all others, None for nobody.
        probabilities: Of each class.
        score: What was explained.
        frame_numbers: The frames that windows see, each once.
        times_seconds: When they are shown.
        window_starts: The first frame of each window.
        window_scores: What was explained in each window.
        window_conservation: ΣR / score in each window.
        parts: Where the score has gone, by names in words, mean over windows; together they are `score`. None for
            methods that hand none down.
        largest_logit: max |logit| in each window.
        relevance: Of each sampled frame, summed over colour, at the network's resolution.
        positive: Each frame's relevance for the target, its positive voxels added up.
        negative: Against it, zero or below.
        largest: max |R| of all voxels.
        note: What became of a video with other frames per second than the network learned from.
    """

    name: str
    method: str
    class_names: tuple[str, ...]
    target: int
    against: int | None
    probabilities: Float[np.ndarray, " K"]
    score: float
    frame_numbers: Int[np.ndarray, " T"] = field(repr=False)
    times_seconds: Float[np.ndarray, " T"] = field(repr=False)
    window_starts: tuple[int, ...] = field(repr=False)
    window_scores: Float[np.ndarray, " W"] = field(repr=False)
    window_conservation: Float[np.ndarray, " W"] = field(repr=False)
    largest_logit: Float[np.ndarray, " W"] = field(repr=False)
    relevance: RelevanceFile = field(repr=False)
    positive: Float[np.ndarray, " T"] = field(repr=False)
    negative: Float[np.ndarray, " T"] = field(repr=False)
    largest: float
    note: str = ""
    parts: dict[str, float] | None = None

    @property
    def where(self) -> str:
        """Where the score has gone, in words; empty where the method hands none down."""
        return "" if self.parts is None else in_words(self.parts, self.score)

    @property
    def warning(self) -> str:
        """What is to be said where the voxels do not make up the score of the method's own rules; else empty."""
        if self.parts is None or not self.method.startswith(LRP):
            return ""
        return warning_of(self.parts, self.score, largest_logit=float(self.largest_logit.mean())) or ""

    @property
    def target_name(self) -> str:
        """What was explained, in words."""
        name = self.class_names[self.target]
        if self.against is None:
            return name
        return f"{name}{VERSUS}{REST_WORD if self.against == REST else self.class_names[self.against]}"

    def top_classes(self, count: int) -> tuple[tuple[str, float], ...]:
        """Give the most probable classes with their probabilities, the first is the prediction."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return tuple((self.class_names[k], float(self.probabilities[k])) for k in order)


def explain_video(
    explain: Explainer, subject: Subject, *, class_names: Sequence[str], settings: ExplainSettings, scratch: Path
) -> VideoExplanation:
    """Explain a video by the windows that slide over it.

    It is read twice: for the scores that choose the target, and to explain.

    Args:
        explain: An open explainer.
        subject: The video, and how the network sees it.
        class_names: In the order of their numbers.
        settings: What is explained.
        scratch: A folder for the file that `relevance` reads; it must stay as long as that is read.

    Raises:
        DataError: the video does not decode to its end.
        ExplanationError: a class that is unknown, or a network that cannot be explained so.
        EnvironmentProblem: `scratch` cannot be written.
    """
    scores = torch.cat([explain.scores(pixels) for _, pixels in subject.batches(settings.batch_size)]).cpu()
    if scores.shape[1] != len(class_names):
        raise ExplanationError(f"the network scores {scores.shape[1]} classes, its run names {len(class_names)}")
    probabilities = scores.softmax(dim=1).mean(dim=0)  # as the accuracy of clips is measured
    target, against = select_target(settings.target, probabilities[None], label=None, class_names=class_names)
    sampled = subject.sampled
    shown = list(dict.fromkeys(sampled))
    window_scores, conservation, accounts = [], [], []
    with _Stitcher(scratch / "relevance.f32", subject) as stitched:
        for places, pixels in subject.batches(settings.batch_size):
            rows = torch.zeros(len(pixels), dtype=torch.long)
            found = explain(pixels, target[rows], against=None if against is None else against[rows])
            window_scores.append(found.score.double().cpu())
            conservation.append(found.conservation.cpu())
            accounts += [] if found.account is None else [found.account]
            stitched.add(places, found.relevance)
    return VideoExplanation(
        name=subject.video.name,
        method=explain.method,
        class_names=tuple(class_names),
        target=int(target),
        against=None if against is None else int(against),
        probabilities=probabilities.double().numpy(),
        score=float(torch.cat(window_scores).mean()),
        frame_numbers=np.asarray(shown),
        times_seconds=np.asarray(subject.video.times_seconds)[shown],
        window_starts=tuple(sampled[start] for start in subject.starts),
        window_scores=torch.cat(window_scores).numpy(),
        window_conservation=torch.cat(conservation).numpy(),
        largest_logit=scores.abs().amax(dim=1).double().numpy(),
        relevance=RelevanceFile(scratch / "relevance.f32", (len(shown), *subject.window.size)),
        positive=np.asarray(stitched.positive),
        negative=np.asarray(stitched.negative),
        largest=stitched.largest,
        note=subject.window.note(subject.video.times_seconds),
        parts=mean_parts(join_accounts(accounts)) if accounts else None,
    )
