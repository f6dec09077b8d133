"""What each section of an audit exchanges, and what it asks without a donor; a new section is an entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.light import Luminance, lift_darkest
from vidact.audit.factors.places import GRID, NUM_PARTS, Background, Border, Cell, Factor, Time
from vidact.audit.factors.shots import OffShot, has_cut
from vidact.audit.settings import BACKGROUND, BORDER, CELLS, CUTS, DARKNESS, TIME

NUM_ORDERS = 5  # random orders of frames, and frames to freeze
ORDER = f"{TIME}.order"
LIFTED = f"{DARKNESS}.lifted"
ACTOR, CUT = "an actor", "a cut"  # what a clip may have, and a factor may need

Probe = Callable[[Clips, torch.Generator], Mapping[str, Tensor]]  # clip, B = 1 -> name -> changed [N, C, T, H, W]


@dataclass(frozen=True)
class Exchange:
    """A finding that comes from exchanging parts of clips.

    Attributes:
        section: To which it belongs.
        says: What the network leans on, in words.
        parts: What is exchanged, one at a time.
        share: Of the donors that are asked for; a finding of many parts takes fewer for each.
        needs: What clips and donors must have: `ACTOR`, `CUT`.
        is_judged: Whether there is a verdict; else it only describes.
    """

    section: str
    says: str
    parts: Mapping[str, Factor]
    share: float = 1.0
    needs: tuple[str, ...] = ()
    is_judged: bool = True

    def num_donors(self, asked: int) -> int:
        """Say how many donors each arm has."""
        return max(1, round(self.share * asked))


def reorderings(clip: Clips, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Shuffle, reverse and freeze a clip's frames.

    Returns:
        `shuffled`: in random orders; `reversed`: one; `frozen`: a frame of each fifth of the time, in all places.
    """
    video = clip.video[0]
    num_frames = video.shape[1]
    orders = [torch.randperm(num_frames, generator=generator) for _ in range(NUM_ORDERS)]
    still = [min(num_frames - 1, (2 * number + 1) * num_frames // (2 * NUM_ORDERS)) for number in range(NUM_ORDERS)]
    return {
        "shuffled": torch.stack([video[:, order.to(video.device)] for order in orders]),
        "reversed": video.flip(1)[None],
        "frozen": torch.stack([video[:, [frame]].expand_as(video) for frame in still]),
    }


EXCHANGES: Mapping[str, Exchange] = {
    BACKGROUND: Exchange(BACKGROUND, "the background", {BACKGROUND: Background()}, needs=(ACTOR,)),
    f"{TIME}.when": Exchange(
        TIME, "a stretch of time", {f"{part + 1}/{NUM_PARTS}": Time(part) for part in range(NUM_PARTS)}, 1 / 8
    ),
    CELLS: Exchange(
        CELLS,
        "a cell of the frame",
        {f"{row},{column}": Cell(row, column) for row in range(GRID) for column in range(GRID)},
        1 / 8,
    ),
    DARKNESS: Exchange(DARKNESS, "where the background is bright and dark", {DARKNESS: Luminance()}, needs=(ACTOR,)),
    CUTS: Exchange(CUTS, "the shot without the action", {CUTS: OffShot()}, needs=(CUT,)),
    BORDER: Exchange(BORDER, "the border of the frame", {BORDER: Border()}),
}
PROBES: Mapping[str, Probe] = {ORDER: reorderings, LIFTED: lift_darkest}
TRAITS: Mapping[str, Callable[[Clips], bool]] = {CUT: has_cut}  # what can only be seen in a clip's pixels
