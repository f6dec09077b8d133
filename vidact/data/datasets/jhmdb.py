"""Read J-HMDB's puppet masks: which pixels show the actor, frame by frame; `loading.masks` uses it.

J-HMDB's clips and split files have HMDB51's layout and names, so `index` and `hmdb51` read those.
Jhuang, Gall, Zuffi, Schmid, Black: Towards understanding action recognition, ICCV 2013.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from vidact.core.errors import DataError
from vidact.data.video.reading import checked_path

KEY = "part_mask"
FOLDER = "puppet_mask"

# What scipy raises for cut, damaged and foreign files.
_UNREADABLE = (OSError, EOFError, LookupError, OverflowError, TypeError, ValueError, MatReadError, zlib.error)


def puppet_mask_places(folder: Path, clip_id: str) -> tuple[Path, Path]:
    """List the two places where a clip's mask may be: a file named like the clip, or the folder of the release.

    Args:
        folder: Usually called `puppet_mask`.
        clip_id: `class/file name without its ending`.
    """
    return folder / f"{clip_id}.mat", folder / clip_id / "puppet_mask.mat"


def read_puppet_mask(path: Path) -> Bool[np.ndarray, "T H W"]:
    """Read a puppet mask, True on the actor.

    Args:
        path: A `.mat` file, MATLAB version 7 or older, whose `part_mask` is 0 or 1 and H×W×T (H×W for one frame).

    Raises:
        DataError: missing, not a MATLAB file, of version 7.3, or without such a mask.
    """
    mask = _load(checked_path(path)).get(KEY)
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected a puppet mask, an array of numbers called {KEY!r}; it holds none")
    if mask.ndim == 2:  # MATLAB drops a last dimension of 1
        mask = mask[..., None]
    if mask.ndim != 3 or mask.size == 0:
        raise DataError(f"{path}: expected {KEY} of shape height × width × frames, got {mask.shape}")
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"{path}: expected {KEY} to be 0 or 1 everywhere, got {mask.min()} to {mask.max()}")
    return np.ascontiguousarray(np.moveaxis(mask, 2, 0)).astype(bool)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = loadmat(file, variable_names=[KEY])
    except NotImplementedError as error:
        raise DataError(
            f"{path}: is of MATLAB version 7.3 (HDF5), which is not read; save it in MATLAB with the option '-v7'"
        ) from error
    except _UNREADABLE as error:
        raise DataError(f"{path}: not a .mat file, or damaged ({' '.join(str(error).split())})") from error
    return content
