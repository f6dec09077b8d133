"""Find people with a network, as `--actor` names it; what it found is kept in the user's cache."""

import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from vidact.audit.settings import POSE, TORCHVISION
from vidact.core.cache import cache_folder
from vidact.core.errors import DataError, EnvironmentProblem
from vidact.core.files import write_whole
from vidact.data.loading.windows import Window
from vidact.data.video.containers import file_sha1
from vidact.data.video.display import Painter
from vidact.data.video.reading import checked_path, decode_all

_VERSION = 1  # raise it whenever a network would find another mask, so that no older ones are read


@runtime_checkable
class PersonNetwork(Protocol):
    """Finds people.

    Attributes:
        digest: Of its weights.
    """

    digest: str

    def find(self, frames: UInt8[Tensor, "T 3 H W"]) -> Bool[Tensor, "T H W"]:
        """Mark the people in frames that follow each other."""


def masks_folder() -> Path:
    """Name the folder of the masks that networks found."""
    return cache_folder() / "actors"


def is_network(actor: str) -> bool:
    """Say whether `--actor` names a network."""
    return actor == TORCHVISION or actor.startswith(POSE)


@functools.lru_cache(maxsize=1)
def open_network(actor: str) -> PersonNetwork:
    """Load the network that `--actor` names.

    Raises:
        ConfigError: its files are not what they should be.
        EnvironmentProblem: its weights cannot be downloaded, or its interpreter is missing.
    """
    # Imported here: torchvision's detectors take a second, which no other actor needs.
    if actor == TORCHVISION:
        from vidact.audit.actors.detector import PersonDetector

        return PersonDetector()
    from vidact.audit.actors.pose import PoseNetwork

    return PoseNetwork(Path(actor.removeprefix(POSE)))


def find_people(network: PersonNetwork, window: Window) -> Bool[Tensor, "T h w"]:
    """Find the people in a window's frames at the clip's own size, or read what was found before.

    Raises:
        DataError: the clip cannot be decoded.
        EnvironmentProblem: the cache cannot be written.
    """
    numbers = sorted(set(window.frame_numbers))
    sha1 = window.sha1 or file_sha1(window.clip.path)
    words = json.dumps([_VERSION, sha1, numbers, network.digest])
    path = masks_folder() / f"{hashlib.sha256(words.encode()).hexdigest()}.npz"
    mask = _read(path)
    if mask is None:
        mask = network.find(_own_frames(window.clip.path, numbers))
        _write(path, mask)
    rows = [numbers.index(number) for number in window.frame_numbers]
    return mask[rows]


def _own_frames(path: Path, numbers: list[int]) -> UInt8[Tensor, "T 3 H W"]:
    """Decode frames in colour at their own size; PyAV reads every file rightly."""
    wanted, frames, painter = set(numbers), [], Painter()
    for number, frame in enumerate(decode_all(checked_path(path))):
        if number in wanted:
            frames.append(torch.from_numpy(painter.upright(frame)).permute(2, 0, 1))
        if number == numbers[-1]:
            return torch.stack(frames)
    raise DataError(f"{path}: frame {numbers[-1]} was asked for, decoding ends before it")


def _read(path: Path) -> Bool[Tensor, "T h w"] | None:
    """Read a kept mask; None where there is none, or the file is damaged."""
    try:
        with np.load(path) as arrays:
            shape = tuple(arrays["shape"].tolist())
            bits = np.unpackbits(arrays["bits"], count=int(np.prod(shape)))
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile):
        return None
    return torch.from_numpy(bits.reshape(shape).astype(bool))


def _write(path: Path, mask: Bool[Tensor, "T h w"]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, bits=np.packbits(mask.numpy()), shape=np.array(mask.shape))
    try:
        write_whole(path, content.getbuffer())
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: cannot be written ({error.strerror}); VIDACT_CACHE names another place"
        ) from error
