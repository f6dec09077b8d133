"""Choose where the actor of a clip is: by the data set's masks, or, without any, by what moves."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

MOVING_SHARE = 0.13  # of a clip's voxels; about that of a person in J-HMDB
BLUR = 9  # pixels of a 100-pixel frame over which movement is averaged
MOST_FILLED = 0.6  # of the frame, over a clip's frames; beyond it no background is left to be exchanged
KINDS = ("actor", "always")  # of masks that hold the actor in all frames, the first that there is


def moving_region(video: Float[Tensor, "B C T H W"]) -> Bool[Tensor, "B T H W"]:
    """Mark the voxels whose surroundings change most between frames: 13 % of each clip.

    This is no person: moving backgrounds and cameras are in it, and people who stand still are not.
    """
    change = (video[:, :, 1:] - video[:, :, :-1]).abs().mean(dim=1)
    change = torch.cat([change[:, :1], change], dim=1) if change.shape[1] else torch.zeros_like(video[:, 0])
    width = max(1, round(BLUR * min(video.shape[3:]) / 100)) // 2 * 2 + 1
    smooth = F.avg_pool2d(change, width, stride=1, padding=width // 2, count_include_pad=False)
    flat = smooth.flatten(1)
    threshold = flat.kthvalue(max(1, round((1 - MOVING_SHARE) * flat.shape[1])), dim=1).values
    return smooth > threshold[:, None, None, None]


def fills_frame(mask: Bool[Tensor, "T H W"]) -> bool:
    """Say whether an actor takes more than 60 % of the frames' area."""
    return float(mask.float().mean()) > MOST_FILLED


def choose_kind(kinds: Mapping[str, int]) -> str | None:
    """Choose the kind of mask that holds the actor, among those that most clips have; None where there is none.

    Args:
        kinds: How many clips have each.
    """
    usual = [kind for kind, count in kinds.items() if 2 * count >= max(kinds.values())]
    return next((kind for kind in (*KINDS, *usual) if kind in usual), None)
