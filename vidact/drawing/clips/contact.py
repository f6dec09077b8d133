"""Draw a few frames of a whole video with their hotspots on one sheet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.figure import frame_grid, frame_labels
from vidact.drawing.timeline import evenly_spread

MAX_FRAMES = 16


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "H W 3"]] | UInt8[np.ndarray, "T1 H W 3"],
    hotspots: Bool[np.ndarray, "T2 h w"],
    frame_numbers: Int[np.ndarray, " T3"],
    times_seconds: Float[np.ndarray, " T4"],
    *,
    title: str,
) -> Figure:
    """Draw at most 16 of the frames, evenly spread, the first and the last among them, with their hotspots.

    Args:
        pictures: RGB, at a resolution of their own; of a long video only those that `evenly_spread` chooses are needed.
        hotspots: True where a voxel is a hotspot, at the resolution of the network.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script; what the font lacks is drawn as �.

    Raises:
        VidactError: the shapes do not fit each other.
    """
    labels = frame_labels(frame_numbers, times_seconds, num_frames=len(pictures))
    if hotspots.ndim != 3 or len(hotspots) != len(pictures):
        raise VidactError(f"expected hotspots [T, h, w] of {len(pictures)} frames, got {hotspots.shape = }")
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1 or len(shape := shapes.pop()) != 3 or shape[2] != 3:
        raise VidactError(f"expected pictures [H, W, 3] of one size, got {sorted({*shapes, pictures[0].shape})}")
    chosen = evenly_spread(len(pictures), at_most=MAX_FRAMES)
    grid = frame_grid([labels[place] for place in chosen], frame_size=(shape[0], shape[1]), title=title)
    grid.show([pictures[place] for place in chosen], smooth=True)
    grid.mark(hotspots[chosen])
    return grid.figure
