"""The shot of a clip that shows less of the action, before or after a cut."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.audit.factors.clips import Clips

BINS = 32  # of the histogram of a frame's gray levels
LEAST_CHANGE = 0.35  # χ² distance of two frames' histograms, from 0 to 1
LEAST_JUMP = 3.0  # times the clip's median distance


def find_cut(video: Float[Tensor, "C T H W"]) -> int | None:
    """Find the first frame after a clip's clearest cut; None where there is none.

    A cut is where the histograms of two frames' gray levels differ by more than 0.35 and by more than three times the
    median over the clip. The distance is χ² = ½ Σ (a − b)² / (a + b) of shares, which is 1 where no level is in both.
    """
    gray = video.mean(dim=0).flatten(1)
    if len(gray) < 2:
        return None
    levels = (gray.clamp(0, 1) * BINS).long().clamp(max=BINS - 1)
    shares = torch.zeros(len(gray), BINS, device=gray.device).scatter_add_(1, levels, torch.ones_like(gray))
    shares = shares / gray.shape[1]
    before, after = shares[:-1], shares[1:]
    distance = ((before - after) ** 2 / (before + after).clamp_min(1e-12)).sum(dim=1) / 2
    most, place = distance.max(dim=0)
    is_cut = most > max(LEAST_CHANGE, LEAST_JUMP * float(distance.median()))
    return int(place) + 1 if bool(is_cut) else None


@dataclass(frozen=True)
class OffShot:
    """What the shot with less of the actor shows: the frames before or after a clip's cut.

    A clip has its cut where `find_cut` says; without one its last quarter stands for the shot.
    """

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the donor's off-shot, as often as it takes, in the place of the clip's."""
        found = clips.video.clone()
        for row in range(len(clips)):
            own, lent = off_shot(clips[[row]]), off_shot(donors[[row]])
            frames = donors.video[row][:, lent]
            places = torch.arange(own.stop - own.start, device=frames.device) % frames.shape[1]
            found[row, :, own] = frames[:, places]
        return found

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the off-shot over the whole time."""
        found = torch.empty_like(clips.video)
        for row in range(len(clips)):
            frames = clips.video[row][:, off_shot(clips[[row]])]
            places = torch.arange(found.shape[2], device=frames.device) % frames.shape[1]
            found[row] = frames[:, places]
        return found


def off_shot(clip: Clips) -> slice:
    """Find the frames of the shot with less of the actor (without masks, with less motion), of one clip."""
    num_frames = clip.video.shape[2]
    cut = find_cut(clip.video[0])
    if cut is None:
        return slice(min(num_frames - 1, num_frames * 3 // 4), num_frames)
    if clip.mask is not None:
        shown = clip.mask[0].flatten(1).float().mean(dim=1)
    else:
        change = (clip.video[0, :, 1:] - clip.video[0, :, :-1]).abs().mean(dim=(0, 2, 3))
        shown = torch.cat([change[:1], change])
        shown[cut] = shown[cut + 1] if cut + 1 < num_frames else 0  # the change at the cut itself is no motion
    return slice(cut, num_frames) if shown[cut:].mean() <= shown[:cut].mean() else slice(0, cut)


def has_cut(clip: Clips) -> bool:
    """Say whether a clip has a cut."""
    return find_cut(clip.video[0]) is not None
