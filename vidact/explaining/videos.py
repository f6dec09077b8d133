"""Explain a video of any length: windows slide over it, and their relevance is averaged frame by frame.

Relevance is kept in a scratch file, so that memory depends on the window, not on the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from vidact.attribution.account import in_words, join_accounts, mean_parts, warning_of
from vidact.attribution.base import Explainer
from vidact.attribution.names import LRP
from vidact.attribution.targets import REST, REST_WORD, VERSUS, select_target
from vidact.core.errors import ExplanationError
from vidact.explaining.settings import ExplainSettings
from vidact.explaining.stitching import RelevanceFile, Stitcher, Subject


@dataclass(frozen=True)
class VideoExplanation:
    """Why a network sees a class in a video, frame by frame.

    The network sees windows. The relevance of a frame is the mean over the windows that hold it, in units of a
    window's logit; score and probabilities are means over all windows. Where the network learned from more frames per
    second than the video has, windows repeat frames, and a frame gets the sum over its repeats.

    Attributes:
        name: Of the video.
        method: Name of the method, with its composite.
        class_names: In the order of their numbers.
        target: The class that positive relevance speaks for.
        against: The class that it speaks against; −1 for all others, None for none.
        probabilities: Of each class.
        score: The explained logit, or difference of logits.
        frame_numbers: The frames that windows see, each once.
        times_seconds: When they are shown.
        window_starts: The first frame of each window.
        window_scores: The score of each window.
        window_conservation: ΣR / score in each window.
        parts: Where the score went, by names in words, mean over windows; they add up to `score`. None for methods
            that do not propagate it.
        largest_logit: max |logit| in each window.
        relevance: Of each sampled frame, summed over colour, at the network's resolution.
        positive: Each frame's relevance for the target, its positive voxels added up.
        negative: Against it, zero or below.
        largest: max |R| of all voxels.
        note: How a video with other frames per second than the network learned from was sampled.
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
        """Where the score went, in words; empty where the method does not propagate it."""
        return "" if self.parts is None else in_words(self.parts, self.score)

    @property
    def warning(self) -> str:
        """A warning where the voxels do not add up to the score, though the method is LRP; else empty."""
        if self.parts is None or not self.method.startswith(LRP):
            return ""
        return (
            warning_of(self.parts, self.score, method=self.method, largest_logit=float(self.largest_logit.mean())) or ""
        )

    @property
    def target_name(self) -> str:
        """The explained class, or pair of classes, in words."""
        name = self.class_names[self.target]
        if self.against is None:
            return name
        return f"{name}{VERSUS}{REST_WORD if self.against == REST else self.class_names[self.against]}"

    def top_classes(self, count: int) -> tuple[tuple[str, float], ...]:
        """List the most probable classes with their probabilities; the first is the prediction."""
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
        settings: How it is explained.
        scratch: A folder for the file behind `relevance`, which must exist as long as that is used.

    Raises:
        DataError: the video does not decode to its end.
        ExplanationError: an unknown class, or a network that this method cannot explain.
        EnvironmentProblem: `scratch` cannot be written.
    """
    # A first pass for the scores alone: which class is predicted depends on the whole video.
    scores = torch.cat([explain.scores(pixels) for _, pixels in subject.batches(settings.batch_size)]).cpu()
    if scores.shape[1] != len(class_names):
        raise ExplanationError(f"the network scores {scores.shape[1]} classes, its run names {len(class_names)}")
    probabilities = scores.softmax(dim=1).mean(dim=0)  # as the accuracy of clips is measured
    target, against = select_target(settings.target, probabilities[None], label=None, class_names=class_names)
    sampled = subject.sampled
    shown = list(dict.fromkeys(sampled))  # each frame once, in order
    window_scores, conservation, accounts = [], [], []
    with Stitcher(scratch / "relevance.f32", subject) as stitched:
        for places, pixels in subject.batches(settings.batch_size):
            rows = torch.zeros(len(pixels), dtype=torch.long)  # repeats the video's target for each window
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
