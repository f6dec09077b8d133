"""Define `ClipBatch`, the clips that a network is given, and the protocols of data modules that make them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ClipBatch:
    """Windows of clips, ready for a network.

    Attributes:
        video: Pixels, 0 to 255.
        label: Class numbers.
        clip_id: `class/file name without its ending`, one per window.
        clip_index: The clip's number on its side of the split; windows of one clip share it.
        window_index: The window's number on its side of the split.
        frame_numbers: Numbers of the frames in their file, from 0.
        times_seconds: When the frames are shown, from the start of the file.
        left_out: One line per skipped clip, which could not be read: `id: reason`.
        mask: True on the actor, where the data set has masks and they were asked for.
        datapoint: Names of the windows as in the 2020 report (`vcP1269_3`), where they were asked for; else empty.
        source: The video that each clip was cut from.
    """

    video: UInt8[Tensor, "B C T H W"]
    label: Int[Tensor, " B"]
    clip_id: tuple[str, ...]
    clip_index: Int[Tensor, " B"]
    window_index: Int[Tensor, " B"]
    frame_numbers: Int[Tensor, "B T"]
    times_seconds: Float[Tensor, "B T"]
    left_out: tuple[str, ...] = ()
    mask: Bool[Tensor, "B T H W"] | None = None
    datapoint: tuple[str, ...] = ()
    source: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def to(self, *args: Any, **kwargs: Any) -> "ClipBatch":
        """Copy every tensor as `torch.Tensor.to` does; Lightning moves batches with this."""
        return self._map_tensors(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "ClipBatch":
        """Copy every tensor to pinned memory; `torch.utils.data.DataLoader` calls this."""
        return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "ClipBatch":
        values: dict[str, Any] = {
            field.name: function(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **values)


@runtime_checkable
class ClipSource(Protocol):
    """A data module that names its classes and picks the clips to be explained."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""

    def example_clips(self, stage: str, clips_per_class: int, *, other_sources: bool = False) -> ClipBatch:
        """Pick a few clips of each class as one batch, the same ones each time.

        Args:
            stage: 'validate' or 'test'.
            clips_per_class: Number of clips; fewer where a class has fewer.
            other_sources: No two clips of a class from one source.
        """


@runtime_checkable
class SplitSource(Protocol):
    """A data module that records how its clips were split, and what leaks from one side to another."""

    @property
    def split_record(self) -> dict[str, Any]:
        """The clips of each side by its name, and the leakage report under `leakage`, as plain values for JSON."""


def as_float(video: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    """Convert pixels 0 to 255 to a network's input, float32 in [0, 1]."""
    return video.float() / 255


def height_and_width(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """Expand a size in pixels, one number for a square or a pair, to height and width."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
