"""Find and read the mask of a clip for the frames of a window, resized like its pixels.

A mask must have as many frames as its clip: J-HMDB's clips are cut out of HMDB51's longer ones and have the same names,
so a mask of another length belongs to another file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from vidact.core.errors import DataError
from vidact.data.datasets.jhmdb import FOLDER as JHMDB_FOLDER
from vidact.data.datasets.jhmdb import puppet_mask_places, read_puppet_mask
from vidact.data.loading.mask_files import ACTOR, digest, frames_in, kinds_in, read_arrays, read_frames

FOLDER_NAMES = ("masks", JHMDB_FOLDER)


def find_masks(root: Path) -> Path | None:
    """Find the folder `masks` or `puppet_mask` in a data set's folder or beside it; None if there is none."""
    places = (parent / name for parent in (root, root.parent) for name in FOLDER_NAMES)
    return next((place for place in places if place.is_dir()), None)


@dataclass(frozen=True)
class MaskFolder:
    """Masks of clips on disk: J-HMDB's puppet masks, those of a synthetic set, or your own.

    A clip's mask is searched as `<class>/<name>.mat`, `<class>/<name>/puppet_mask.mat`, `<class>/<name>.npz` (arrays of
    frames × height × width, not 0 on the actor) and a folder `<class>/<name>` of PNG frames, not black on the actor.

    Attributes:
        folder: Contains a folder for each class.
    """

    folder: Path

    def find(self, clip_id: str) -> Path | None:
        """Find the file of a clip's mask; None where it has none."""
        places = (*puppet_mask_places(self.folder, clip_id), self.folder / f"{clip_id}.npz")
        frames = self.folder / clip_id
        found = next((place for place in places if place.exists()), None)
        return found or (frames if frames.is_dir() and frames_in(frames) else None)

    def digest(self, clip_id: str) -> str | None:
        """Compute the SHA-1 of a clip's mask; None where it has none."""
        path = self.find(clip_id)
        return None if path is None else digest(path)

    def kinds(self, clip_id: str) -> tuple[str, ...]:
        """List the kinds of mask that a clip has, the default first; empty where it has none."""
        path = self.find(clip_id)
        return () if path is None else kinds_in(path)

    def read(
        self,
        clip_id: str,
        frame_numbers: Sequence[int],
        *,
        clip_frames: int,
        size: tuple[int, int],
        kind: str | None = None,
    ) -> Bool[Tensor, "T H W"]:
        """Read the mask of some frames, True on the actor (or whatever the kind of mask marks).

        It is resized by the same filter as the pixels (`video.reading.read_frames`), bilinear with antialiasing; a
        pixel is the actor's if at least half of its weight is.

        Args:
            clip_id: `class/file name without its ending`.
            frame_numbers: From 0, in any order, with repeats if wanted.
            clip_frames: Number of frames that decode; the header may claim more.
            size: Height and width of the result in pixels; the frame's aspect is not kept.
            kind: One of `kinds`; the first if None.

        Raises:
            DataError: no mask, none of this kind, a damaged one, another number of frames, or a frame beyond its
                end.
        """
        path = self.find(clip_id)
        if path is None:
            raise DataError(f"{clip_id}: has no mask in {self.folder}; remove the clip, or set --data.masks false")
        kinds = kinds_in(path)
        if kind is not None and kind not in kinds:
            raise DataError(f"{path}: holds no mask {kind!r}; there are {', '.join(kinds)}")
        mask = _read(path, kind or next(iter(kinds), ACTOR))
        _check(mask, frame_numbers, clip_frames=clip_frames, path=path)
        return _resize(torch.from_numpy(mask[np.asarray(frame_numbers, dtype=np.int64)]), size)


def _read(path: Path, kind: str) -> Bool[np.ndarray, "..."]:
    if path.is_dir():
        return read_frames(path)
    return read_arrays(path, kind) if path.suffix == ".npz" else read_puppet_mask(path)


def _check(mask: Bool[np.ndarray, "..."], frame_numbers: Sequence[int], *, clip_frames: int, path: Path) -> None:
    if mask.ndim != 3:
        raise DataError(f"{path}: expected a mask of shape frames × height × width, got {mask.shape}")
    if len(mask) != clip_frames:
        raise DataError(
            f"{path}: the mask has {len(mask)} frames and the clip has {clip_frames}; it belongs to another video"
        )
    if wrong := [number for number in frame_numbers if not 0 <= number < clip_frames]:
        raise DataError(f"{path}: frame {wrong[0]} was requested, the mask has frames 0 to {clip_frames - 1}")


def _resize(mask: Bool[Tensor, "T h w"], size: tuple[int, int]) -> Bool[Tensor, "T H W"]:
    if mask.shape[1:] == size:
        return mask
    # Antialiased like the pixels; 0.5 about keeps the mask's area.
    share: Tensor = transforms.resize(mask.float(), list(size), antialias=True)
    return share >= 0.5


def choose_masks(root: Path, place: bool | str) -> MaskFolder:
    """Open the masks of a data set, from a given folder or from one in or beside the data set.

    Args:
        root: The data set.
        place: Folder of the masks; True searches for it.

    Raises:
        DataError: there is no such folder.
    """
    folder = find_masks(root) if isinstance(place, bool) else Path(place)
    if folder is None or not folder.is_dir():
        raise DataError(
            f"no masks for {root}: expected a folder masks or puppet_mask in or beside it; name it as "
            "--data.masks FOLDER"
        )
    return MaskFolder(folder)
