"""Choose the paths of a synthetic clip's discs: one performs the motion, decoys take its steps in disorder.

Each of four discs has its own axis: it moves horizontally or vertically, rotates, or scales its texture. During the
action the disc of the class's axis makes its steps in order (in reverse order for the opposite class), and each decoy
makes as many steps of the same length on its own axis, in random order. Before and after, all four tremble. Walkers
make steps of an action's length all the time, to and fro.

So a clip's frames, as a set without order, have exactly the same distribution in all classes: relative to one another
the four orders are random, whichever of them is sorted.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

# Axis and sign. Rows grow downwards, so angles grow clockwise on the screen.
_MOTIONS = {
    "clockwise": ("turn", 1),
    "contract": ("grow", -1),
    "counter_clockwise": ("turn", -1),
    "down": ("row", 1),
    "expand": ("grow", 1),
    "left": ("column", -1),
    "right": ("column", 1),
    "up": ("row", -1),
}
# What a step on an axis changes: row, column, angle, log radius.
DIRECTIONS = {"row": (1, 0, 0, 0), "column": (0, 1, 0, 0), "turn": (0, 0, 1, 0), "grow": (0, 0, 0, 1)}
AXES = tuple(DIRECTIONS)
CLASS_NAMES: tuple[str, ...] = tuple(_MOTIONS)

LENGTH_RANGE = (4, 16)
MAX_WALKERS = 4
TREMBLE_STEPS = 4.0  # largest distance of a trembling disc from its place


@dataclass(frozen=True)
class Motion:
    """Position of each disc on its own axis, frame by frame.

    Attributes:
        steps: Distance from the disc's place in steps; the four of `AXES` (or the actor alone), then the walkers.
        axes: The axis of each disc.
        places: Each disc's number among all possible ones: the four of `AXES`, then the walkers.
        actor: The disc that acts.
        start: First frame of the action.
        length: Frames of the action.
    """

    steps: Float[np.ndarray, "D T"]
    axes: tuple[str, ...]
    places: tuple[int, ...]
    actor: int
    start: int
    length: int


def draw_motion(
    class_name: str,
    *,
    generator: np.random.Generator,
    num_frames: int,
    length_range: tuple[int, int] = LENGTH_RANGE,
    room: int | None = None,
    decoys: bool = True,
    walkers: int = 0,
) -> Motion:
    """Draw the time of a class's action, and the steps of all discs.

    Args:
        class_name: One of `CLASS_NAMES`.
        generator: Random generator; the draws do not depend on the class.
        num_frames: Frames of the clip.
        length_range: Smallest and largest number of the action's frames; at most `room`.
        room: The action takes place within so many frames from the first on; None for all.
        decoys: Whether there are three more discs.
        walkers: Number of walking discs.
    """
    axis, sign = _MOTIONS[class_name]
    room = num_frames if room is None else room
    low, high = (min(length, room) for length in length_range)
    length = int(generator.integers(low, high, endpoint=True))
    start = int(generator.integers(0, room - length, endpoint=True))
    steps = generator.uniform(-TREMBLE_STEPS, TREMBLE_STEPS, (len(AXES), num_frames))
    orders = draw_orders(generator, length=length)
    actor = AXES.index(axis)
    in_order = np.argsort(orders[actor])[::sign]  # permutation of the frames that sorts the actor's steps
    steps[:, start : start + length] = orders[:, in_order] - (length - 1) / 2
    paths, axes = _walk(generator, num_frames=num_frames, count=walkers)
    own = range(len(AXES)) if decoys else [actor]
    return Motion(
        steps=np.concatenate([steps[own], paths]),
        axes=(*(AXES[number] for number in own), *axes),
        places=(*own, *range(len(AXES), len(AXES) + walkers)),
        actor=actor if decoys else 0,
        start=start,
        length=length,
    )


def _walk(
    generator: np.random.Generator, *, num_frames: int, count: int
) -> tuple[Float[np.ndarray, "D T"], tuple[str, ...]]:
    """Draw axes and paths of walkers: a step per frame, at most two in a row in one direction."""
    axes = tuple(AXES[number] for number in generator.integers(len(AXES), size=count))
    sides = generator.choice([-1.0, 1.0], (count, num_frames))
    for frame in range(2, num_frames):
        alike = sides[:, frame - 2] == sides[:, frame - 1]
        sides[alike, frame] = -sides[alike, frame - 1]
    return np.cumsum(sides, axis=1), axes


def draw_orders(generator: np.random.Generator, *, length: int) -> Int[np.ndarray, "4 L"]:
    """Draw four orders of `length` steps, no two of them equal or the reverse of each other.

    (Fewer than four steps do not have so many orders; then they may be.)
    """
    while True:  # rejection: nearly every draw will do
        orders = np.stack([generator.permutation(length) for _ in AXES])
        if length < 4 or not any(_agree(a, b) for a, b in combinations(orders, 2)):
            return orders


def _agree(a: Int[np.ndarray, " L"], b: Int[np.ndarray, " L"]) -> bool:
    return np.array_equal(a, b) or np.array_equal(a, len(b) - 1 - b)
