"""Confounders: signs at a known place, or of a known kind, that correlate with the class.

`plant` paints most of them into any clip; a camera's drift and a disc's size have to be rendered (`clips.render_clip`).
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vidact.core.errors import ConfigError
from vidact.data.synthetic.scenes import draw_scene

Confounder = Literal["patch", "band", "flicker", "plate", "dark", "shot", "cut", "drift", "size"]
KINDS: tuple[Confounder, ...] = get_args(Confounder)
# Fewer frames would hide the action, make signs equal, or show too little of a drift.
LEAST_FRAMES: dict[Confounder, int] = {"shot": 4, "cut": 16, "drift": 8}

NUM_CODES = 8
NEUTRAL_RADIUS = 0.115  # share of the frame's shorter side; the sign `size` takes four smaller and four larger ones
_RADII = np.geomspace(0.07, 0.19, NUM_CODES)
_DRIFT = 0.01  # per frame, of the shorter side: half a step of an action
_DARK, _BRIGHT = 26, 230
_SHARE = 1 / 6  # of the frame's shorter side: a patch
_THICKNESS = 1 / 16  # of its height: a band
# The mean gray value of a clip, darker or brighter than any without the sign (0.39 to 0.48).
_LEVELS = (0.2, 0.25, 0.3, 0.35, 0.55, 0.6, 0.65, 0.7)
# Cells of a 4×4 grid, those at the frame's edge but not in a corner: each code has its own.
_CELLS = ((0, 1), (0, 2), (1, 3), (2, 3), (3, 2), (3, 1), (2, 0), (1, 0))
_EDGE = 1 / 12  # of height and width: a plate stays off the frame's edge
_STRIPE = 1 / 12  # of the shorter side: a period of a plate's stripes
_BACKDROPS = 2020  # seed of the eight scenes after a cut; they are the same in all sets
_BACKDROP_BLOBS = 6
_BACKDROP_RANGE = (0.05, 0.85)  # of gray values


def draw_code(label: int, *, agreement: float, generator: np.random.Generator) -> int:
    """Draw the sign of a clip: that of its class with probability `agreement`, else another.

    Args:
        label: The class, below `NUM_CODES`.
        agreement: From 1 / NUM_CODES, where the sign carries no information, to 1.
        generator: Random generator; always draws two numbers.
    """
    agrees = generator.random() < agreement
    other = (label + int(generator.integers(1, NUM_CODES))) % NUM_CODES
    return label if agrees else other


def plant(
    video: UInt8[np.ndarray, "T H W 3"],
    *,
    kind: Confounder,
    code: int,
    objects: Bool[np.ndarray, "T H W"] | None = None,
    footage: UInt8[np.ndarray, "T H W 3"] | None = None,
) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"]]:
    """Paint a sign over a copy of a clip.

    `patch`: a dark square in the upper left corner with a bright dot at one of eight places, in all frames.
    `band`: a dark band over the whole width, at one of eight heights, in all frames.
    `flicker`: a square in the upper left corner that is lit during one of eight parts of the time (with fewer than
    eight frames some signs are equal).
    `plate`: a striped rectangle behind the discs, at one of eight places of the frame and with stripes of its own.
    `dark`: one of eight brightnesses of the whole clip, discs too.
    `shot`: the last quarter of the frames shows one of eight other scenes, which are empty and still.
    `cut`: another scene follows at one of eight frames in the second half.

    Args:
        video: The clip, which is not changed.
        kind: One of `KINDS`, but not `drift` or `size`, which `clips.render_clip` renders.
        code: Number of the sign, below `NUM_CODES`.
        objects: True on the discs: a plate lies behind them, and brightness is not looked for on them. Without it
            there are no discs.
        footage: The other scene, as long as the clip: needed for `cut`; for `shot`, instead of the code's scene.

    Returns:
        The clip with the sign, and a mask that is True where it was painted; for `dark`, on all that is no disc.

    Raises:
        ConfigError: no such code, a kind to be rendered, too few frames, or a cut without footage.
    """
    if kind not in PAINTED:
        raise ConfigError(f"expected one of {', '.join(PAINTED)}, got {kind!r}; render_clip renders drift and size")
    check_code(code)
    if len(video) < LEAST_FRAMES.get(kind, 1):
        raise ConfigError(f"the confounder {kind} needs {LEAST_FRAMES[kind]} frames or more, got {len(video)}")
    painted, mask = video.copy(), np.zeros(video.shape[:3], dtype=bool)
    if kind == "shot" or kind == "cut":
        first = find_cut(kind, code=code, num_frames=len(video))
        painted[first:] = _find_footage(video, kind, code, footage)[first:]
        mask[first:] = True
        return painted, mask
    _PAINTERS[kind](painted, mask, code)
    if objects is not None and kind in ("plate", "dark"):
        mask &= ~objects
        if kind == "plate":
            painted[objects] = video[objects]
    return painted, mask


def check_code(code: int) -> None:
    """Raise ConfigError for a sign that does not exist."""
    if code not in range(NUM_CODES):
        raise ConfigError(f"the code of a confounder is from 0 to {NUM_CODES - 1}, got {code}")


def action_room(kind: Confounder | None, *, num_frames: int) -> int:
    """Say how many frames from the first on no sign of this kind ever hides: there the action takes place."""
    if kind in ("shot", "cut"):
        return min(find_cut(kind, code=code, num_frames=num_frames) for code in range(NUM_CODES))
    return num_frames


def find_cut(kind: Literal["shot", "cut"], *, code: int, num_frames: int) -> int:
    """Find the first frame of the other scene."""
    if kind == "shot":
        return num_frames - num_frames // 4
    half = num_frames // 2
    return half + code * (num_frames - half) // NUM_CODES


def drift_velocity(code: int, *, size: tuple[int, int]) -> Float[np.ndarray, "2"]:
    """Compute the camera's velocity, pixels down and right in a frame: code 0 to the right, 2 down, and so on."""
    angle = 2 * np.pi * code / NUM_CODES
    return _DRIFT * min(size) * np.array([np.sin(angle), np.cos(angle)])


def actor_radius(code: int) -> float:
    """Compute the acting disc's radius, as a share of the frame's shorter side."""
    return float(_RADII[code])


def draw_backdrop(number: int, *, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw one of the eight empty scenes that follow a cut: all as bright, and of more contrast than a clip's own."""
    generator = np.random.default_rng((_BACKDROPS, number))
    ground = draw_scene(generator, size=size, blobs=_BACKDROP_BLOBS).background
    order = ground.mean(axis=-1).reshape(-1).argsort(kind="stable").argsort(kind="stable")  # all grays equally often
    gray = np.interp(order, (0, order.size - 1), _BACKDROP_RANGE).reshape(size)
    colour = gray[..., None] * ground.mean(axis=(0, 1)) / ground.mean()
    return np.asarray(np.rint(255 * colour), dtype=np.uint8)


def _paint_patch(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    side = max(3, round(_SHARE * min(video.shape[1:3])))
    video[:, :side, :side] = _DARK
    row, column = divmod(code if code < 4 else code + 1, 3)  # the eight places around the middle
    edge = np.rint(np.linspace(0, side, 4)).astype(int)
    video[:, edge[row] : edge[row + 1], edge[column] : edge[column + 1]] = _BRIGHT
    mask[:, :side, :side] = True


def _paint_band(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    height = video.shape[1]
    thickness = max(1, round(_THICKNESS * height))
    top = round(code * (height - thickness) / (NUM_CODES - 1))
    video[:, top : top + thickness] = _DARK
    mask[:, top : top + thickness] = True


def _paint_flicker(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    side = max(3, round(_SHARE * min(video.shape[1:3])))
    first, last = (number * len(video) // NUM_CODES for number in (code, code + 1))
    lit = slice(first, max(last, first + 1))
    video[lit, :side, :side] = _BRIGHT
    mask[lit, :side, :side] = True


def _paint_plate(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    """Fill most of a cell of the 4×4 grid with stripes: four directions, and for every other code twice as wide."""
    rows, columns = (
        slice(round(max(place / 4, _EDGE) * side), round(min((place + 1) / 4, 1 - _EDGE) * side))
        for place, side in zip(_CELLS[code], video.shape[1:3], strict=True)
    )
    angle = np.pi / 4 * (code // 2)
    down, right = np.mgrid[rows, columns]
    along = down * np.sin(angle) + right * np.cos(angle)
    period = _STRIPE * min(video.shape[1:3]) * (1 + code % 2)
    stripes = np.cos(2 * np.pi * along / period) > 0
    video[:, rows, columns] = np.where(stripes, _BRIGHT, _DARK)[..., None]
    mask[:, rows, columns] = True


def _paint_dark(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    """Raise all values to the power that gives the clip its mean, which clips no pixel; found by bisection."""
    count = np.bincount(video.reshape(-1), minlength=256) / video.size
    value = np.arange(256) / 255
    low, high = -4.0, 4.0  # logarithms of the power: a greater one is darker
    for _ in range(40):
        middle = (low + high) / 2
        too_bright = count @ value ** np.exp(middle) > _LEVELS[code]
        low, high = (middle, high) if too_bright else (low, middle)
    video[:] = np.rint(255 * value ** np.exp(low)).astype(np.uint8)[video]
    mask[:] = True


def _find_footage(
    video: UInt8[np.ndarray, "T H W 3"], kind: str, code: int, footage: UInt8[np.ndarray, "T H W 3"] | None
) -> UInt8[np.ndarray, "T H W 3"]:
    """Choose what is seen after the cut: what was given, or for `shot` the backdrop of the code."""
    if footage is None and kind == "shot":
        footage = np.stack([draw_backdrop(code, size=(video.shape[1], video.shape[2]))] * len(video))
    if footage is None or footage.shape != video.shape:
        got = "none" if footage is None else f"shape {footage.shape}"
        raise ConfigError(f"after the cut, footage of another scene of shape {video.shape} is needed, got {got}")
    return footage


_PAINTERS: dict[str, Callable[[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"], int], None]] = {
    "patch": _paint_patch,
    "band": _paint_band,
    "flicker": _paint_flicker,
    "plate": _paint_plate,
    "dark": _paint_dark,
}
PAINTED = (*_PAINTERS, "shot", "cut")
