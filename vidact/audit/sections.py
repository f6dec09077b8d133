"""What each section of an audit exchanges, and what it asks without a donor; a new section is an entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidact.audit.factors.camera import Camera, is_trackable
from vidact.audit.factors.clips import Clips
from vidact.audit.factors.light import Luminance, lifted
from vidact.audit.factors.places import GRID, NUM_PARTS, Background, Border, Cell, Factor, Time
from vidact.audit.factors.shots import OffShot, find_cut
from vidact.audit.factors.size import Size
from vidact.audit.factors.speed import Speed
from vidact.audit.settings import BACKGROUND, BORDER, CAMERA, CELLS, CUTS, DARKNESS, SCALE, SPEED, TIME

NUM_ORDERS = 5  # random orders of frames, and frames to freeze
ORDER = f"{TIME}.order"
LIFTED = f"{DARKNESS}.lifted"
# What a clip may have, and a factor may need.
ACTOR, CUT, PATH = (
    "an actor",
    "a cut",
    "a camera path that can be tracked",
)

Probe = Callable[[Clips, torch.Generator], Mapping[str, Tensor]]  # clip, B = 1 -> name -> changed [N, C, T, H, W]


@dataclass(frozen=True)
class Exchange:
    """A finding that comes from exchanging parts of clips.

    Attributes:
        section: To which it belongs.
        says: What the network leans on, in words.
        parts: What is exchanged, one at a time.
        share: Of the donors that are asked for; a finding of many parts takes fewer for each.
        needs: What clips and donors must have: `ACTOR`, `CUT`, `PATH`.
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


def lift_darkest(clip: Clips, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Lift the darkest fifth of a clip's background, and make the same changes elsewhere in it; see `lifted`.

    Returns:
        `lifted` and `shifted`; nothing without a mask, or where there is nothing to lift.
    """
    found = None if clip.mask is None else lifted(clip, generator=generator)
    return {} if found is None else dict(zip(("lifted", "shifted"), found, strict=True))


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
    CAMERA: Exchange(CAMERA, "the camera's path", {CAMERA: Camera()}, needs=(ACTOR, PATH)),
    SCALE: Exchange(SCALE, "the actor's size", {SCALE: Size()}, needs=(ACTOR,)),
    SPEED: Exchange(SPEED, "the speed of what moves", {SPEED: Speed()}),
}
PROBES: Mapping[str, Probe] = {ORDER: reorderings, LIFTED: lift_darkest}
PROBE_NEEDS: Mapping[str, tuple[str, ...]] = {LIFTED: (ACTOR,)}
TRAITS: Mapping[str, Callable[[Clips], bool]] = {  # what can only be seen in a clip's pixels
    CUT: lambda clip: find_cut(clip.video[0]) is not None,
    PATH: lambda clip: bool(is_trackable(clip)),
}
