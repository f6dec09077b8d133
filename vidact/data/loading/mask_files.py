"""Read a clip's masks from the kinds of files that people have: arrays in an .npz, and a folder of PNG frames."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from vidact.core.errors import DataError
from vidact.data.synthetic.clips import MASK_KINDS
from vidact.data.synthetic.files import load_mask
from vidact.data.video.containers import file_sha1

ACTOR = "actor"  # of masks that have no name
_PACKED = "shape"  # an .npz of the synthetic set, whose arrays are bits, has this beside them


def kinds_in(path: Path) -> tuple[str, ...]:
    """List the kinds of mask that a file or a folder of frames has, the default first; reads no mask."""
    if path.suffix != ".npz" or path.is_dir():
        return (ACTOR,)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return (ACTOR,)  # reading it will say what is wrong
    known = [kind for kind in MASK_KINDS if kind in names]
    return (*known, *(name for name in names if name not in (*known, _PACKED)))


def read_arrays(path: Path, kind: str) -> Bool[np.ndarray, "..."]:
    """Read an array of an .npz: bits of the synthetic set, or frames × height × width, where all but 0 is the actor.

    Raises:
        DataError: damaged, no such array, or one of other numbers than whole ones.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz of masks (no ZIP archive)")
    try:
        with np.load(path) as arrays:
            names = arrays.files
            found = None if _PACKED in names or kind not in names else arrays[kind]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not an .npz of masks ({error})") from error
    if found is None:
        return load_mask(path, kind)
    if found.dtype.kind not in "bui":
        raise DataError(f"{path}: {kind!r} holds {found.dtype}; expected bool or whole numbers, 0 where no actor is")
    return np.asarray(found != 0)


def frames_in(folder: Path) -> list[Path]:
    """List a folder's PNG frames in the order of their names, shorter ones first, so that 10.png follows 9.png."""
    return sorted(folder.glob("*.png"), key=lambda path: (len(path.name), path.name))


def read_frames(folder: Path) -> Bool[np.ndarray, "T H W"]:
    """Read a mask from PNG frames: all but black is the actor; with a palette, all but its first colour.

    Raises:
        DataError: a damaged frame, or frames of several sizes.
    """
    frames = []
    for path in frames_in(folder):
        try:
            with Image.open(path) as picture:
                pixels = np.asarray(picture)  # with a palette, the number of the colour
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            raise DataError(f"{path}: not a PNG ({error})") from error
        # The last of two or four channels is opacity.
        colours = pixels if pixels.ndim == 2 else pixels[..., : {2: 1, 4: 3}.get(pixels.shape[2], pixels.shape[2])]
        frames.append(colours != 0 if colours.ndim == 2 else (colours != 0).any(axis=2))
    if len({frame.shape for frame in frames}) != 1:
        raise DataError(f"{folder}: expected PNG frames of one size, got {len(frames)} of several")
    return np.stack(frames)


def digest(path: Path) -> str:
    """Compute the SHA-1 of a mask's file, or of all its frames."""
    if not path.is_dir():
        return file_sha1(path)
    together = "\n".join(f"{frame.name} {file_sha1(frame)}" for frame in frames_in(path))
    return hashlib.sha1(together.encode(), usedforsecurity=False).hexdigest()
