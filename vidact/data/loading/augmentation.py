"""Vary clips at random on the device where they are: crop, mirror, brightness, contrast, a shift in time.

It does not know what the clips are for, nor when they are to be varied.

Chance decides once per clip, so all frames of a clip change alike and its motion stays what it is. Everything
random is drawn on the CPU: equal generators give equal clips whatever the device.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError

_NUM_CHANCES = 8  # random numbers per clip, the same whatever is switched on


@dataclass(frozen=True)
class AugmentationSettings:
    """How far clips may be varied; a range is (least, most).

    Mirroring changes the class where a class is a direction (the synthetic set's `left` and `right`, `clockwise`
    and `counter_clockwise`): set `flip_probability` to 0 there.

    Attributes:
        crop_scale: Share of the frame's area that is cut out and brought to the size that is wanted; (1, 1) for all.
        crop_aspect: Width by height of what is cut out, over that of the frame; the drawn area is kept, so a large
            area allows little of it.
        flip_probability: Share of clips that are mirrored, left for right.
        brightness: Pixels are multiplied by 1 ± this at most; 0 leaves them.
        contrast: Distances from the clip's mean are multiplied by 1 ± this at most; 0 leaves them.
        temporal_jitter: Shift of the window in time, at most, in frames of the window to either side; 0 for none.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)
    crop_aspect: tuple[float, float] = (0.8, 1.25)
    flip_probability: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    temporal_jitter: int = 2

    def __post_init__(self) -> None:
        least, most = self.crop_scale
        if not 0 < least <= most <= 1:
            raise ConfigError(f"augmentation: crop_scale is two shares, 0 < least <= most <= 1, got {self.crop_scale}")
        least, most = self.crop_aspect
        if not 0 < least <= most < math.inf:
            raise ConfigError(f"augmentation: crop_aspect is two ratios, 0 < least <= most, got {self.crop_aspect}")
        for name in ("flip_probability", "brightness", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augmentation: {name} must be from 0 to 1, got {getattr(self, name)}")
        if self.temporal_jitter < 0:
            raise ConfigError(f"augmentation: temporal_jitter must be at least 0 frames, got {self.temporal_jitter}")

    def decoded_frames(self, num_frames: int) -> int:
        """Count the frames that a window must bring along so that `num_frames` of them are left after the shift."""
        return num_frames + 2 * self.temporal_jitter


@dataclass(frozen=True)
class Variation:
    """What chance decided for each clip of a batch; on the CPU.

    Attributes:
        first_frame: Where the run of frames starts, from 0.
        top: Upper end of what is cut out, as a share of the frame's height.
        left: Its left end, as a share of the frame's width.
        height: Its height, as a share of the frame's.
        width: Its width, as a share of the frame's.
        flip: Mirrored, left for right.
        brightness: Factor of the pixels.
        contrast: Factor of their distance from the clip's mean.
    """

    first_frame: Int[Tensor, " B"]
    top: Float[Tensor, " B"]
    left: Float[Tensor, " B"]
    height: Float[Tensor, " B"]
    width: Float[Tensor, " B"]
    flip: Bool[Tensor, " B"]
    brightness: Float[Tensor, " B"]
    contrast: Float[Tensor, " B"]


def augment(
    batch: ClipBatch,
    *,
    settings: AugmentationSettings,
    generator: torch.Generator,
    size: tuple[int, int] | None = None,
) -> ClipBatch:
    """Vary every clip of a batch by chance, all its frames alike; its mask follows.

    Args:
        batch: With `settings.decoded_frames(T)` frames, on any device.
        settings: How far.
        generator: On the CPU; it moves on by the same amount per clip whatever the settings.
        size: Height and width of the clips that come out, in pixels; those of the batch if None.

    Returns:
        A batch with T frames; `frame_numbers` and `times_seconds` are those of the frames that were kept.

    Raises:
        ConfigError: the batch has no frame to spare for the shift in time.
    """
    num_frames = batch.video.shape[2] - 2 * settings.temporal_jitter
    if num_frames < 1:
        raise ConfigError(
            f"augmentation: temporal_jitter {settings.temporal_jitter} needs windows of at least "
            f"{settings.decoded_frames(1)} decoded frames, got {batch.video.shape[2]}"
        )
    variation = draw(len(batch), settings=settings, generator=generator)
    last = _last_first_frame(batch.frame_numbers.cpu(), num_frames=num_frames)
    variation = replace(variation, first_frame=torch.minimum(variation.first_frame, last))
    return vary(batch, variation, num_frames=num_frames, size=size)


def _last_first_frame(frame_numbers: Int[Tensor, "B T"], *, num_frames: int) -> Int[Tensor, " B"]:
    """Say where a run may start at the latest, so that it repeats no frame that it need not repeat."""
    distinct = 1 + (frame_numbers.diff(dim=1) > 0).sum(dim=1)
    return (distinct - num_frames).clamp(min=0)


def draw(num_clips: int, *, settings: AugmentationSettings, generator: torch.Generator) -> Variation:
    """Draw for each clip, evenly within the settings; the aspect evenly in its logarithm.

    An aspect that would not fit into the frame at the drawn area is brought to the nearest that does.
    """
    chance = torch.rand(num_clips, _NUM_CHANCES, generator=generator, dtype=torch.float64).unbind(dim=1)
    scale = _between(chance[0], *settings.crop_scale)
    log_aspect = _between(chance[1], *map(math.log, settings.crop_aspect)).clamp(scale.log(), -scale.log())
    height = (scale.log() - log_aspect).div(2).exp().clamp(max=1)
    width = (scale.log() + log_aspect).div(2).exp().clamp(max=1)
    return Variation(
        first_frame=(chance[2] * (2 * settings.temporal_jitter + 1)).long(),
        top=chance[3] * (1 - height),
        left=chance[4] * (1 - width),
        height=height,
        width=width,
        flip=chance[5] < settings.flip_probability,
        brightness=_between(chance[6], 1 - settings.brightness, 1 + settings.brightness),
        contrast=_between(chance[7], 1 - settings.contrast, 1 + settings.contrast),
    )


def _between(chance: Float[Tensor, " B"], least: float, most: float) -> Float[Tensor, " B"]:
    return least + (most - least) * chance


def vary(batch: ClipBatch, variation: Variation, *, num_frames: int, size: tuple[int, int] | None = None) -> ClipBatch:
    """Apply what was drawn: a run of `num_frames` frames, the geometry, then brightness and contrast."""
    batch = _take_run(batch, variation.first_frame, num_frames=num_frames)
    device = batch.video.device
    source = (batch.video.shape[3], batch.video.shape[4])
    height, width = size or source
    grid = _sampling_grid(variation, size=(height, width), source=source).to(device)
    factors = torch.stack([variation.brightness, variation.contrast], dim=1).float().to(device)
    video = batch.video.new_empty(*batch.video.shape[:3], height, width)
    mask = None if batch.mask is None else batch.mask.new_empty(*batch.mask.shape[:2], height, width)
    # One clip at a time fits into a CPU's cache, which makes it twice as fast; a GPU takes all at once.
    step = 1 if device.type == "cpu" else max(len(batch), 1)
    for start in range(0, len(batch), step):
        rows = slice(start, start + step)
        video[rows] = _vary_pixels(batch.video[rows], grid[rows], factors[rows])
        if mask is not None and batch.mask is not None:
            mask[rows] = _sample(batch.mask[rows].float(), grid[rows]) >= 0.5
    return replace(batch, video=video, mask=mask)


def _take_run(batch: ClipBatch, first_frame: Int[Tensor, " B"], *, num_frames: int) -> ClipBatch:
    """Keep a run of frames of each clip, in everything that has a frame axis."""
    columns = (first_frame[:, None] + torch.arange(num_frames)).to(batch.video.device)  # [B, T]
    rows = torch.arange(len(batch), device=columns.device)[:, None]
    return replace(
        batch,
        video=batch.video.transpose(1, 2)[rows, columns].transpose(1, 2).contiguous(),
        frame_numbers=batch.frame_numbers[rows, columns],
        times_seconds=batch.times_seconds[rows, columns],
        mask=None if batch.mask is None else batch.mask[rows, columns],
    )


def _sampling_grid(variation: Variation, *, size: tuple[int, int], source: tuple[int, int]) -> Float[Tensor, "B H W 2"]:
    """Say where each pixel of the result comes from: x and y, −1 and 1 at the frame's edges.

    Beyond the centres of the source's outermost pixels there is nothing to blend with, so places there move to them.
    """
    height, width = size
    y = _places(variation.top, variation.height, num_pixels=height, of=source[0])  # [B, H]
    x = _places(variation.left, variation.width, num_pixels=width, of=source[1])  # [B, W]
    x = torch.where(variation.flip[:, None], x.flip(1), x)
    shape = (len(x), height, width)
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1).float()


def _places(
    start: Float[Tensor, " B"], length: Float[Tensor, " B"], *, num_pixels: int, of: int
) -> Float[Tensor, "B P"]:
    centres = (torch.arange(num_pixels, dtype=torch.float64) + 0.5) / num_pixels
    outermost = 1 - 1 / of
    return (2 * (start[:, None] + length[:, None] * centres) - 1).clamp(-outermost, outermost)


def _vary_pixels(
    video: UInt8[Tensor, "B C T I J"], grid: Float[Tensor, "B H W 2"], factors: Float[Tensor, "B 2"]
) -> UInt8[Tensor, "B C T H W"]:
    brightness, contrast = factors[:, :, None, None, None, None].unbind(dim=1)  # [B, 1, 1, 1, 1]
    images = _sample(video.float().flatten(1, 2), grid)
    pixels = images.reshape(*video.shape[:3], *images.shape[-2:]) * brightness
    mean = pixels.mean(dim=(1, 2, 3, 4), keepdim=True)
    return (contrast * pixels + (1 - contrast) * mean).round().clamp(0, 255).to(torch.uint8)


def _sample(images: Float[Tensor, "B N I J"], grid: Float[Tensor, "B H W 2"]) -> Float[Tensor, "B N H W"]:
    """Sample all images of a clip at the same places, bilinearly."""
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
