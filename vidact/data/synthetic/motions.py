"""Draw the motions of a synthetic clip: one disc acts, three decoys take the same steps in disorder, others walk.

It does not know what discs look like.

Four discs each have an axis of their own: to move along it is to go across, to go down, to turn, or to grow
inwardly. In the action's frames the disc whose axis is the class's takes its steps in order (or in reverse order, for
the opposite class), and each decoy takes as many steps of the same length on its own axis, in disorder. Before and
after, all four tremble. Walkers take steps of an action's length all the time, to and fro.

What a clip's frames show, taken as a set without order, therefore has exactly the same distribution for all classes:
relative to one another the four orders are random, whichever of them is put in order.
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
TREMBLE_STEPS = 4.0  # a trembling disc is anywhere within so many steps of its place


@dataclass(frozen=True)
class Motion:
    """Where each disc is on its own axis, frame by frame.

    Attributes:
        steps: Distance from the disc's place in steps; the four of `AXES` (or the actor alone), then the walkers.
        axes: The axis of each disc.
        places: Each disc's number among all that there may be: the four of `AXES`, then the walkers.
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
    decoys: bool = True,
    walkers: int = 0,
) -> Motion:
    """Draw when a class's action happens, and the steps of all discs.

    Args:
        class_name: One of `CLASS_NAMES`.
        generator: What is drawn from it is the same for all classes.
        num_frames: Frames of the clip.
        length_range: Least and greatest number of the action's frames; the clip's length where that is less.
        decoys: Whether there are three more discs.
        walkers: How many discs walk.
    """
    axis, sign = _MOTIONS[class_name]
    low, high = (min(length, num_frames) for length in length_range)
    length = int(generator.integers(low, high, endpoint=True))
    start = int(generator.integers(0, num_frames - length, endpoint=True))
    steps = generator.uniform(-TREMBLE_STEPS, TREMBLE_STEPS, (len(AXES), num_frames))
    orders = draw_orders(generator, length=length)
    actor = AXES.index(axis)
    in_order = np.argsort(orders[actor])[::sign]  # which moment comes when, so that the actor's steps are in order
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
    """Draw axes of walkers and their paths: a step per frame, at most two in a row to one side."""
    axes = tuple(AXES[number] for number in generator.integers(len(AXES), size=count))
    sides = generator.choice([-1.0, 1.0], (count, num_frames))
    for frame in range(2, num_frames):
        alike = sides[:, frame - 2] == sides[:, frame - 1]
        sides[alike, frame] = -sides[alike, frame - 1]
    return np.cumsum(sides, axis=1), axes


def draw_orders(generator: np.random.Generator, *, length: int) -> Int[np.ndarray, "4 L"]:
    """Draw four orders of `length` steps, no two of which are the same or the reverse of one another.

    (With fewer than four steps there are not so many; then they may be.)
    """
    while True:
        orders = np.stack([generator.permutation(length) for _ in AXES])
        if length < 4 or not any(_agree(a, b) for a, b in combinations(orders, 2)):
            return orders


def _agree(a: Int[np.ndarray, " L"], b: Int[np.ndarray, " L"]) -> bool:
    return np.array_equal(a, b) or np.array_equal(a, len(b) - 1 - b)
