"""What each section of an audit exchanges, and what it asks without a donor; a new section is an entry here."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.audit.factors.places import GRID, NUM_PARTS, Background, Border, Cell, Factor, Time
from vidact.audit.settings import BACKGROUND, BORDER, CELLS, TIME

NUM_ORDERS = 5  # random orders of frames, and frames to freeze
ORDER = f"{TIME}.order"


@dataclass(frozen=True)
class Exchange:
    """A finding that comes from exchanging parts of clips.

    Attributes:
        section: To which it belongs.
        says: What the network leans on, in words.
        parts: What is exchanged, one at a time.
        share: Of the donors that are asked for; a finding of many parts takes fewer for each.
        needs_actor: Whether there must be masks.
    """

    section: str
    says: str
    parts: Mapping[str, Factor]
    share: float = 1.0
    needs_actor: bool = False

    def num_donors(self, asked: int) -> int:
        """Say how many donors each arm has."""
        return max(1, round(self.share * asked))


EXCHANGES: dict[str, Exchange] = {
    BACKGROUND: Exchange(BACKGROUND, "the background", {BACKGROUND: Background()}, needs_actor=True),
    f"{TIME}.when": Exchange(
        TIME, "a stretch of time", {f"{part + 1}/{NUM_PARTS}": Time(part) for part in range(NUM_PARTS)}, 1 / 8
    ),
    CELLS: Exchange(
        CELLS,
        "a cell of the frame",
        {f"{row},{column}": Cell(row, column) for row in range(GRID) for column in range(GRID)},
        1 / 8,
    ),
    BORDER: Exchange(BORDER, "the border of the frame", {BORDER: Border()}),
}


def reorderings(
    video: Float[Tensor, "C T H W"], *, generator: torch.Generator
) -> dict[str, Float[Tensor, "N C T H W"]]:
    """Shuffle, reverse and freeze a clip's frames.

    Returns:
        `shuffled`: in random orders; `reversed`: one; `frozen`: a frame of each fifth of the time, in all places.
    """
    num_frames = video.shape[1]
    orders = [torch.randperm(num_frames, generator=generator) for _ in range(NUM_ORDERS)]
    still = [min(num_frames - 1, (2 * number + 1) * num_frames // (2 * NUM_ORDERS)) for number in range(NUM_ORDERS)]
    return {
        "shuffled": torch.stack([video[:, order.to(video.device)] for order in orders]),
        "reversed": video.flip(1)[None],
        "frozen": torch.stack([video[:, [frame]].expand_as(video) for frame in still]),
    }
