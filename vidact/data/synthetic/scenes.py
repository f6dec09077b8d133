"""Paint scenes of textured discs before a background, and record which disc is seen at each pixel.

The scene is a torus: what leaves on one side enters on the other. Lengths are shares of the frame's shorter side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, UInt8

from vidact.data.synthetic.motions import DIRECTIONS, Motion

RADIUS_RANGE = (0.11, 0.14)
STEP_RANGE = (0.016, 0.022)  # for rotation and scaling, the motion at _MIDDLE of the radius
_MIDDLE = 0.6
# Brightness: dark rim, bright centre, texture on top.
_RIM, _SHADING, _CONTRAST = 0.2, 0.5, 0.2
# Positions of discs on a torus of side 1, before a common random shift.
_PLACES = np.array([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1), (1, 3), (3, 1), (3, 3)]) / 4
_SPOKES_RANGE, _RINGS_RANGE = (3, 5), (3.0, 5.0)  # periods per turn; radians per unit of log radius


@dataclass(frozen=True)
class Scene:
    """What all clips of one source share: the background, and the discs' tint and texture frequencies."""

    background: Float32[np.ndarray, "H W 3"]
    tint: Float[np.ndarray, "3"]
    spokes: int
    rings: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width, _ = self.background.shape
        return height, width


@dataclass(frozen=True)
class Disc:
    """A disc, frame by frame: centre in pixels, clockwise angle in radians, log scale of its texture, wave phases."""

    radius_pixels: float
    centre: Float[np.ndarray, "T 2"]
    angle: Float[np.ndarray, " T"]
    log_scale: Float[np.ndarray, " T"]
    phase: Float[np.ndarray, "2"]
    step_pixels: float


def draw_scene(generator: np.random.Generator, *, size: tuple[int, int], blobs: int = 0) -> Scene:
    """Draw a background with `blobs` dark and as many bright blobs, and a family of textures."""
    return Scene(
        background=_draw_background(generator, size=size, blobs=blobs),
        tint=generator.uniform(0.8, 1.0, 3),
        spokes=int(generator.integers(*_SPOKES_RANGE, endpoint=True)),
        rings=float(generator.uniform(*_RINGS_RANGE)),
    )


def _draw_background(
    generator: np.random.Generator, *, size: tuple[int, int], blobs: int
) -> Float32[np.ndarray, "H W 3"]:
    """Sum a few slow waves that are periodic on the torus, and blobs, in a grayish colour."""
    frequency = generator.integers(-3, 3, (6, 2), endpoint=True)
    phase = generator.uniform(0, 2 * np.pi, 6)
    rows, columns = (np.arange(side) / side for side in size)
    turns = frequency[:, 0, None, None] * rows[:, None] + frequency[:, 1, None, None] * columns  # [J, H, W]
    shade = 0.45 + 0.15 * np.cos(2 * np.pi * turns + phase[:, None, None]).mean(axis=0)
    for number in range(2 * blobs):
        sign = 1 if number % 2 else -1
        shade += sign * 0.3 * _blob(generator.uniform(0, size), size, generator.uniform(*RADIUS_RANGE) * min(size))
    colour = np.clip(shade, 0.05, 0.95)[..., None] * generator.uniform(0.9, 1.1, 3)
    return np.asarray(np.clip(colour, 0, 1), dtype=np.float32)


def _blob(centre: Float[np.ndarray, "2"], size: tuple[int, int], radius_pixels: float) -> Float[np.ndarray, "H W"]:
    """Compute a Gaussian of height 1 on the torus."""
    down, right = (
        (np.arange(side) - middle + side / 2) % side - side / 2 for side, middle in zip(size, centre, strict=True)
    )
    return np.asarray(np.exp(-2 * (down[:, None] ** 2 + right**2) / radius_pixels**2))


def draw_discs(motion: Motion, *, generator: np.random.Generator, size: tuple[int, int]) -> list[Disc]:
    """Draw position, size, speed and phases of each disc from the same distributions, and apply its motion.

    The first four discs are in the four quarters of the torus, which are shifted at random; walkers are between them.
    """
    side, count = min(size), len(_PLACES)
    corner = generator.uniform(0, 1, 2)
    quarters = [*generator.permutation(4), *(4 + generator.permutation(4))]
    shift = generator.uniform(-0.05, 0.05, (count, 2))
    radius = generator.uniform(*RADIUS_RANGE, count) * side
    step = generator.uniform(*STEP_RANGE, count) * side
    phase = generator.uniform(0, 2 * np.pi, (count, 2))
    discs = []
    for number, axis, steps in zip(motion.places, motion.axes, motion.steps, strict=True):
        middle = (corner + _PLACES[quarters[number]] + shift[number]) * np.array(size)
        path = step[number] * steps[:, None] * np.array(DIRECTIONS[axis])  # [T, 4], pixels
        angle, log_scale = path[:, 2:].T / (_MIDDLE * radius[number])
        discs.append(
            Disc(float(radius[number]), middle + path[:, :2], angle, log_scale, phase[number], float(step[number]))
        )
    return discs


def resize_disc(disc: Disc, *, radius_pixels: float) -> Disc:
    """Give a disc another radius; rotation and scaling still move its texture by as many pixels."""
    ratio = disc.radius_pixels / radius_pixels
    return replace(disc, radius_pixels=radius_pixels, angle=disc.angle * ratio, log_scale=disc.log_scale * ratio)


def paint(
    scene: Scene, discs: Sequence[Disc], *, shift: Int[np.ndarray, "T 2"]
) -> tuple[UInt8[np.ndarray, "T H W 3"], Int8[np.ndarray, "T H W"]]:
    """Paint discs before a background, from back to front.

    Args:
        scene: The background and the textures.
        discs: The discs.
        shift: Camera shift of each frame, in pixels down and to the right.

    Returns:
        The video in RGB, and the number of the disc seen at each pixel, −1 for the background.
    """
    height, width = scene.size
    ground = np.tile(np.rint(255 * scene.background).astype(np.uint8), (2, 2, 1))
    video = np.stack([ground[row : row + height, column : column + width] for row, column in -shift % scene.size])
    seen = np.full(video.shape[:3], -1, dtype=np.int8)
    pixels, owner = video.reshape(-1, 3), seen.reshape(-1)  # the same memory
    for number, disc in enumerate(discs):
        place, cover, shade = _render(scene, disc, shift)
        colour = (255 * shade)[:, None] * scene.tint.astype(np.float32)
        behind = pixels.take(place, axis=0).astype(np.float32)
        pixels[place] = np.rint(np.clip(behind + cover[:, None] * (colour - behind), 0, 255)).astype(np.uint8)
        owner[place[cover >= 0.5]] = number
    return video, seen


def _render(
    scene: Scene, disc: Disc, shift: Int[np.ndarray, "T 2"]
) -> tuple[Int[np.ndarray, " N"], Float32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """Compute the pixels of all frames that a disc touches, its coverage of each, and its brightness there."""
    height, width = scene.size
    centre = disc.centre + shift
    corner = np.floor(centre).astype(int)  # [T, 2]
    reach = np.arange(-int(disc.radius_pixels) - 1, int(disc.radius_pixels) + 3)  # P pixels
    rows, columns = corner[:, :1] + reach, corner[:, 1:] + reach  # [T, P], may leave the frame
    down, right = ((place - centre[:, [axis]]).astype(np.float32) for axis, place in enumerate((rows, columns)))
    square = (down * down)[:, :, None] + (right * right)[:, None, :]  # [T, P, P]
    touched = np.flatnonzero(square < (disc.radius_pixels + 0.5) ** 2)
    row, column = np.divmod(touched, len(reach))  # counted through all frames
    frame = row // len(reach)
    column += frame * len(reach)
    radius = np.sqrt(square.reshape(-1)[touched])
    shade = _RIM + _SHADING * (1 - (radius / np.float32(disc.radius_pixels)) ** 2)
    angle = np.arctan2(down.reshape(-1)[row], right.reshape(-1)[column])
    shade += _CONTRAST * _texture(scene, disc, radius, angle, frame)
    cover = np.clip(np.float32(disc.radius_pixels + 0.5) - radius, 0, 1)
    first = (np.arange(len(rows))[:, None] * height + rows % height) * width  # [T, P], where each row begins
    place = first.reshape(-1)[row] + (columns % width).reshape(-1)[column]
    return place, cover, shade.astype(np.float32)


def _texture(
    scene: Scene,
    disc: Disc,
    radius: Float32[np.ndarray, " N"],
    angle: Float32[np.ndarray, " N"],
    frame: Int[np.ndarray, " N"],
) -> Float32[np.ndarray, " N"]:
    """Add spokes and rings, waves in log-polar coordinates: rotation shifts only the spokes, scaling only the rings.

    (Spirals would do for both, but a small part of a rotating spiral looks like that of a growing one.)
    Near the centre the waves are finer than pixels; a Gaussian blur of one pixel removes them there.
    """
    radius = np.maximum(radius, np.float32(0.5))
    square, total = radius * radius, np.zeros_like(radius)
    for frequency, where, moved, phase in (
        (scene.spokes, angle, disc.angle, disc.phase[0]),
        (scene.rings, np.log(radius), disc.log_scale, disc.phase[1]),
    ):
        offset = ((phase - frequency * moved) % (2 * np.pi)).astype(np.float32)
        blur = np.exp(np.float32(-0.5 * frequency**2) / square)
        total += blur * np.cos(np.float32(frequency) * where + offset[frame])
    return total
