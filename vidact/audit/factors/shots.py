"""What follows or precedes a cut: the shot of a clip that shows less of the actor, and an inserted other end."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.audit.factors.clips import Clips

NUM_BINS = 32
TIMES_MEDIAN = 3.0  # a cut changes the histogram that many times more than most pairs of frames
LEAST_DISTANCE = 0.35  # 2 is the distance of two histograms without a common value


def find_cut(video: Float[Tensor, "C T H W"]) -> int | None:
    """Find the largest cut of a clip.

    Histograms of gray of neighbouring frames are compared by the symmetric chi-squared distance Σ (p − q)² / (p + q) of
    the shares p and q, from 0 to 2. Each pixel is divided between the two nearest bins, so that a slight change of
    brightness is a slight change of the histogram. A cut to a scene with as many pixels of each gray is not found.

    Args:
        video: In [0, 1].

    Returns:
        The first frame after the cut; None without one.
    """
    if video.shape[1] < 2:
        return None
    share = _histograms(video.mean(dim=0).flatten(1))
    before, after = share[:-1], share[1:]
    distance = ((before - after) ** 2 / (before + after).clamp_min(1e-12)).sum(dim=1)
    largest = distance.argmax()
    # With two frames the median is the cut itself.
    usual = distance.median() if len(distance) > 1 else torch.zeros_like(distance[0])
    is_cut = bool(distance[largest] > max(LEAST_DISTANCE, TIMES_MEDIAN * float(usual)))
    return int(largest) + 1 if is_cut else None


def _histograms(gray: Float[Tensor, "T N"]) -> Float[Tensor, "T bins"]:
    """Compute the share of each bin, frame by frame."""
    place = gray.clamp(0, 1) * (NUM_BINS - 1)
    low = place.floor().long().clamp_max(NUM_BINS - 2)
    upper = place - low
    found = gray.new_zeros(len(gray), NUM_BINS)
    return found.scatter_add(1, low, 1 - upper).scatter_add(1, low + 1, upper) / gray.shape[1]


@dataclass(frozen=True)
class OffShot:
    """The frames before or after a cut, whichever show less of the actor; without masks, those with less motion.

    A donor's shot that is longer than needed is sampled evenly, a shorter one is looped. Where both shots are equal in
    this, it is the second. Of several cuts only the largest counts.
    """

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Replace these frames by those of the donor.

        Raises:
            ValueError: there is no cut in a clip or a donor.
        """
        found = clips.video.clone()
        for row in range(len(clips)):
            own, lent = _off_shot(clips[[row]]), _off_shot(donors[[row]])
            found[row][:, own] = donors.video[row][:, _sampled(lent, len(own))]
        return found

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show these frames over the whole time.

        Raises:
            ValueError: there is no cut in a clip.
        """
        count = clips.video.shape[2]
        shots = [_sampled(_off_shot(clips[[row]]), count) for row in range(len(clips))]
        return torch.stack([own[:, shot] for own, shot in zip(clips.video, shots, strict=True)])


def _off_shot(clip: Clips) -> Int[Tensor, " N"]:
    """Number the frames of a clip's shot with less actor."""
    video = clip.video[0]
    cut = find_cut(video)
    if cut is None:
        raise ValueError("expected clips with a cut, got one without; ask find_cut first")
    order = torch.arange(video.shape[1], device=video.device)
    shots = order[:cut], order[cut:]
    if clip.mask is None:
        before, after = (_motion(video[:, shot]) for shot in shots)
    else:
        before, after = (float(clip.mask[0, shot].float().mean()) for shot in shots)
    return shots[0] if before < after else shots[1]


def _motion(video: Float[Tensor, "C T H W"]) -> float:
    """Compute the mean change between frames; a single frame has none."""
    return float(video.diff(dim=1).abs().mean()) if video.shape[1] > 1 else 0.0


def _sampled(shot: Int[Tensor, " N"], count: int) -> Int[Tensor, " M"]:
    """Choose so many frames of a shot."""
    order = torch.arange(count, device=shot.device)
    if len(shot) < count:
        return shot[order % len(shot)]
    return shot[(2 * order + 1) * len(shot) // (2 * count)]
