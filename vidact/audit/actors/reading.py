"""Read a run's clips with their actors and still backgrounds; those that were read last are kept."""

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from vidact.audit.actors.gaps import fill_gaps
from vidact.audit.actors.moving import choose_kind, fills_frame, moving_region
from vidact.audit.actors.people import find_people, is_network, masks_folder, open_network
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.sections import ACTOR, TRAITS
from vidact.audit.settings import MOVING, NONE, TORCHVISION
from vidact.core.cache import locked
from vidact.core.clips import height_and_width
from vidact.core.errors import DataError
from vidact.core.progress import progress_bar
from vidact.data.loading.masks import MaskFolder
from vidact.data.loading.windows import Window
from vidact.runs.clips.chosen import ChosenClips, read_pixels
from vidact.runs.run import Run

_KEPT_BYTES = 1_000_000_000  # decoded clips of each process

AROUND = 2  # frames of the file, before and after a single one, in which movement is seen


class ClipReader:
    """Reads clips, as the network sees them, onto a device.

    Args:
        run: Its settings say how clips are decoded.
        chosen: The clips.
        actor: Where the actor comes from: a kind of mask, `moving`, `none`, or a network as `--actor` names it, which
            searches all clips at once: whose clips have an actor must be known before donors are drawn.
        objects: Masks of objects, by name.
    """

    def __init__(
        self, run: Run, chosen: ChosenClips, *, actor: str, objects: Mapping[str, MaskFolder] | None = None
    ) -> None:
        self.device = torch.device("cpu")
        self._run, self._chosen, self._actor, self._objects = run, chosen, actor, objects or {}
        self._windows = {window.clip.clip_id: window for window in chosen.windows}
        self._read_before: OrderedDict[str, Clips] = OrderedDict()
        self._found = _search(actor, chosen) if is_network(actor) else set()

    def read(self, clip_id: str) -> Clips:
        """Read a clip, B = 1, with its plate, or take it from those that were read before.

        Raises:
            DataError: the clip or its mask cannot be read.
        """
        if clip_id in self._read_before:
            self._read_before.move_to_end(clip_id)
            return self._read_before[clip_id]
        window = self._windows[clip_id]
        clip = self._with_actor(window, read_pixels(self._run, window)[None].to(self.device))
        if self._objects:
            objects = {name: self._with_object(name, window, clip.video) for name in self._objects}
            clip = replace(clip, objects=objects)
        self._read_before[clip_id] = clip
        most = max(2, _KEPT_BYTES // max(1, clip.video.nbytes))
        while len(self._read_before) > most:
            self._read_before.popitem(last=False)
        return clip

    def has_actor(self, window: Window) -> bool:
        """Say whether it is known where a clip's actor is, without reading the clip."""
        if self._actor in (MOVING, NONE):
            return self._actor == MOVING
        if is_network(self._actor):
            return window.clip.clip_id in self._found
        return self._actor in self._chosen.kinds_of(window.clip.clip_id)

    def traits(self, window: Window, wanted: Collection[str]) -> frozenset[str]:
        """Say what a clip has of what factors may need; it is read only if that must be seen in its pixels.

        A clip whose actor fills the frame counts as one without an actor.
        """
        found = {ACTOR} if self.has_actor(window) and not (ACTOR in wanted and self._is_filled(window)) else set()
        unseen = [name for name in TRAITS if name in wanted]
        if unseen:
            with contextlib.suppress(DataError):  # it is told as a clip that cannot be asked about
                clip = self.read(window.clip.clip_id)
                found |= {name for name in unseen if TRAITS[name](clip)}
        return frozenset(found)

    def _is_filled(self, window: Window) -> bool:
        if self._actor in (MOVING, NONE):
            return False
        with contextlib.suppress(DataError):  # it is told as a clip that cannot be asked about
            mask = self._read_mask(window, size=height_and_width(self._run.data_settings["size"]))
            return mask is not None and fills_frame(mask)
        return False

    def _with_actor(self, window: Window, video: Tensor) -> Clips:
        if self._actor == NONE:
            return Clips(video)
        if self._actor == MOVING:
            return with_plate(video, self._moving(window, video))
        mask = self._read_mask(window, size=(video.shape[3], video.shape[4]))
        if mask is None:
            return Clips(video)
        return with_plate(video, mask[None].to(self.device))

    def _with_object(self, name: str, window: Window, video: Tensor) -> Clips:
        """Find an object in a clip; it is nowhere in one without a mask."""
        folder, clip_id = self._objects[name], window.clip.clip_id
        kinds = folder.kinds(clip_id)
        if not kinds:
            return Clips(video, torch.zeros_like(video[:, 0], dtype=torch.bool), video.mean(dim=2))
        mask = folder.read(
            clip_id,
            window.frame_numbers,
            clip_frames=window.clip_frames,
            size=(video.shape[3], video.shape[4]),
            kind=name if name in kinds else None,
        )
        return with_plate(video, mask[None].to(self.device))

    def _moving(self, window: Window, video: Tensor) -> Bool[Tensor, "1 T H W"]:
        """Find what moves; in a single frame, by the file's frames around it."""
        if video.shape[2] > 1:
            return moving_region(video)
        here = window.frame_numbers[0]
        around = sorted({max(0, here - AROUND), here, min(window.clip_frames - 1, here + AROUND)})
        frames = read_pixels(self._run, replace(window, frame_numbers=tuple(around)))[None].to(self.device)
        return moving_region(frames)[:, [around.index(here)]]

    def _read_mask(self, window: Window, *, size: tuple[int, int]) -> Bool[Tensor, "T H W"] | None:
        if not is_network(self._actor):
            mask = self._chosen.read_mask(window, self._actor, size=size)
        elif window.clip.clip_id not in self._found:
            mask = None
        else:
            people = find_people(open_network(self._actor), window)
            # The filter of the data set's masks and of the pixels.
            share: Tensor = transforms.resize(people.float(), list(size), antialias=True)
            mask = share >= 0.5
        return None if mask is None else fill_gaps(mask, window.frame_numbers)


def _search(actor: str, chosen: ChosenClips) -> set[str]:
    """Name the clips in which a network finds somebody."""
    network, found = open_network(actor), set()
    folder = masks_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # One of several processes searches, the others read what it found.
    waiting = "another process is searching people; waiting for it"
    with locked(folder / "lock", waiting=waiting), progress_bar("searching people") as progress:
        for number, window in enumerate(chosen.windows, start=1):
            with contextlib.suppress(DataError):  # told as a clip that cannot be read, once it is asked about
                if bool(find_people(network, window).any()):
                    found.add(window.clip.clip_id)
            progress(number, len(chosen.windows))
    return found


def find_actor(chosen: ChosenClips, asked: str) -> str:
    """Say where the actor comes from: a kind of mask, what moves, nowhere, or a network, which is loaded.

    Raises:
        ConfigError: the network's files are not what they should be.
        EnvironmentProblem: its weights or its interpreter are missing.
    """
    if asked in (MOVING, NONE):
        return asked
    if is_network(asked):
        open_network(asked)
        return asked
    kinds = Counter(kind for window in chosen.windows for kind in chosen.kinds_of(window.clip.clip_id))
    return choose_kind(kinds) or MOVING


def name_actor(actor: str) -> str:
    """Name an actor as every output does."""
    if is_network(actor):
        return "person (torchvision)" if actor == TORCHVISION else "person (pose)"
    return {MOVING: "moving region, which is no person", NONE: "not known"}.get(actor, "actor (masks)")
