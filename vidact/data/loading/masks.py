"""Find and read the mask of a clip for the frames of a window, at the size of its pixels.

It does not know what the masks are for, nor which clips are used.

A mask has its clip's decoded frames, all of them: J-HMDB's clips are cut out of HMDB51's longer ones and carry
the same names, so a mask of another length belongs to another file and is refused.
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
from vidact.data.synthetic.clips import MASK_KINDS
from vidact.data.synthetic.files import load_mask

FOLDER_NAMES = ("masks", JHMDB_FOLDER)
JHMDB_KIND = "actor"


def find_masks(root: Path) -> Path | None:
    """Find the folder of masks, `masks` or `puppet_mask`, inside a data set's folder or beside it; None without."""
    places = (parent / name for parent in (root, root.parent) for name in FOLDER_NAMES)
    return next((place for place in places if place.is_dir()), None)


@dataclass(frozen=True)
class MaskFolder:
    """Masks of clips on disk: J-HMDB's puppet masks, or those of a synthetic set.

    A clip's mask is looked for as `<class>/<name>.mat`, `<class>/<name>/puppet_mask.mat`, `<class>/<name>.npz`.

    Attributes:
        folder: Holds a folder for each class.
    """

    folder: Path

    def find(self, clip_id: str) -> Path | None:
        """Name the file of a clip's mask; None where it has none."""
        places = (*puppet_mask_places(self.folder, clip_id), self.folder / f"{clip_id}.npz")
        return next((place for place in places if place.exists()), None)

    def kinds(self, clip_id: str) -> tuple[str, ...]:
        """Name the masks that a clip has, the one that is read by default first; none where it has none."""
        path = self.find(clip_id)
        if path is None:
            return ()
        return MASK_KINDS if path.suffix == ".npz" else (JHMDB_KIND,)

    def read(
        self,
        clip_id: str,
        frame_numbers: Sequence[int],
        *,
        clip_frames: int,
        size: tuple[int, int],
        kind: str | None = None,
    ) -> Bool[Tensor, "T H W"]:
        """Read the mask of some frames, True on the actor (or on what the kind of mask says).

        It is resized by the filter that `video.read_frames` uses for the pixels, bilinear with antialiasing: a
        pixel is the actor's where at least half of its light came from the actor.

        Args:
            clip_id: `class/file name without its ending`.
            frame_numbers: From 0, in any order, with repeats if wanted.
            clip_frames: Frames that the clip has when it is decoded; the header may claim more.
            size: Height and width of the result in pixels; the frame's aspect is not kept.
            kind: One of `kinds`; the first if None.

        Raises:
            DataError: no mask, none of this kind, a damaged one, one of another number of frames, or a frame that it
                does not have.
        """
        path = self.find(clip_id)
        if path is None:
            raise DataError(f"{clip_id}: has no mask in {self.folder}; leave the clip out, or do without masks")
        if kind is not None and kind not in self.kinds(clip_id):
            raise DataError(f"{path}: holds no mask {kind!r}; there are {', '.join(self.kinds(clip_id))}")
        mask = load_mask(path, kind or MASK_KINDS[0]) if path.suffix == ".npz" else read_puppet_mask(path)
        _check(mask, frame_numbers, clip_frames=clip_frames, path=path)
        return _resize(torch.from_numpy(mask[np.asarray(frame_numbers, dtype=np.int64)]), size)


def _check(mask: Bool[np.ndarray, "..."], frame_numbers: Sequence[int], *, clip_frames: int, path: Path) -> None:
    if mask.ndim != 3:
        raise DataError(f"{path}: expected a mask of shape frames × height × width, got {mask.shape}")
    if len(mask) != clip_frames:
        raise DataError(
            f"{path}: the mask has {len(mask)} frames and the clip has {clip_frames}; it belongs to another video"
        )
    if wrong := [number for number in frame_numbers if not 0 <= number < clip_frames]:
        raise DataError(f"{path}: frame {wrong[0]} was asked for, the mask has frames 0 to {clip_frames - 1}")


def _resize(mask: Bool[Tensor, "T h w"], size: tuple[int, int]) -> Bool[Tensor, "T H W"]:
    if mask.shape[1:] == size:
        return mask
    share: Tensor = transforms.resize(mask.float(), list(size), antialias=True)
    return share >= 0.5


def choose_masks(root: Path, place: bool | str) -> MaskFolder:
    """Open the masks of a data set: those in a named folder, or those that lie in or beside the set.

    Args:
        root: The data set.
        place: The masks' folder; True searches for it.

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
